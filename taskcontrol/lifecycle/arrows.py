"""How a move is made: one conditional UPDATE that says what it expects, told as it commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import F
from django.db.models.functions import Greatest

from .. import crashpoints
from ..announcing import announce, anyone_listens
from ..brief import brief
from ..conf import conf
from ..dialect import DatabaseNow, free_keys, update_returning
from ..models import TaskLog
from ..pokes import poke_after_commit
from ..prepared import PreparedMove
from ..status import MOVES, Status


class Arrow(PreparedMove):
    """A move that is made so often that its UPDATE is compiled once."""

    def __init__(
        self, old: Status, new: Status, build: Any, columns: Sequence[str]
    ) -> None:
        def whole(p: Any) -> Any:
            rows, values = build(p)
            return rows.filter(status=old), written(old, new, values)

        def unheard(p: Any) -> Any:
            rows, values = whole(p)
            return rows.filter(heard=False), values

        columns = ("rev", "heard", *columns)
        super().__init__(TaskLog, columns, whole)
        self.old, self.new = old, new
        #: The same for tasks whose changes are told to nobody.
        self.unheard = PreparedMove(TaskLog, columns, unheard)


def announced(
    arrow: Arrow, given: dict[str, Any], *, error: str = "", alone: bool = True
) -> list[TaskLog]:
    """Make the move; announce it in its own transaction if anybody is to hear of it.

    Who that is stands in the row. Most are heard by nobody, so the move of one task
    (``alone``) is tried as such first, which then is the only statement.
    """
    if alone and not anyone_listens():
        moved = arrow.unheard.run(conf.DATABASE, given)
        if moved:
            poke_after_commit(moved)
            return moved
    with brief(savepoint=False, swift=True):
        moved = arrow.run(conf.DATABASE, given)
        announce(moved, arrow.old, arrow.new, error=error)
        poke_after_commit(moved)
        before_commit(moved, arrow.new)
    return moved


def move(
    rows: Any,
    old: Status,
    new: Status,
    *,
    columns: Sequence[str] = (),
    message: Any = None,
    **values: Any,
) -> list[TaskLog]:
    """Write ``new`` to those of ``rows`` that are ``old``; return them, announced."""
    with brief(savepoint=False, swift=True):
        moved: list[TaskLog] = update_returning(
            rows.filter(status=old), written(old, new, values), ("rev", "heard", *columns)
        )
        announce(moved, old, new, message=message)
        poke_after_commit(moved)
        before_commit(moved, new)
    return moved


def before_commit(moved: Sequence[Any], new: Status) -> None:
    """Stand where a move is made and not yet committed."""
    if moved:
        crashpoints.reached(f"moved.{new.lower()}")


def written(old: Status, new: Status, values: dict[str, Any]) -> dict[str, Any]:
    """Return what the UPDATE of a move writes; raises ValueError when there is no such move."""
    if new not in MOVES[old]:
        raise ValueError(f"{old} -> {new} is not a move of status.MOVES")
    return {"status": new, "rev": F("rev") + 1, **values}


def end_of_a_body() -> Greatest:
    """Return ``ended_at`` of one that is Started: now, or as it began if that seems later.

    The database's clock may have been set back, or be that of its standby by now.
    """
    return Greatest(F("started_at"), DatabaseNow())


def free_ones(rows: Any) -> list[int]:
    """Lock ``rows`` and return their keys, without those that somebody else is changing.

    A sweep that waited for a caller's open transaction would stop the dispatcher.
    """
    return free_keys(rows if rows.query.is_sliced else rows.order_by("pk"))
