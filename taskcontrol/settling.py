"""Looks after batches: holds back what a failure stops, ends what has ended, calls back."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from django.db.models import Q

from . import batches, crashpoints, lifecycle
from .bell import request_dispatch
from .brief import brief
from .conf import conf
from .dialect import DatabaseNow, free_keys
from .models import TaskBatch, TaskLog
from .prepared import PreparedQuery
from .status import Status

logger = logging.getLogger("taskcontrol")

#: Pages of members that one sweep holds back: the rest waits for the next.
HOLD_PAGES = 10

_HELD = PreparedQuery(batches.held_batches)


def held_batches() -> list[str]:
    """Return the ids of the batches of which nothing may be promoted, but something could."""
    return [batch_id for batch_id, *_ in _HELD.rows(conf.DATABASE)]


def settle_batches() -> int:
    """Hold back what a failure or a pause stops, and end the batches that have ended.

    A batch that ends inserts the tasks of its callbacks, each once for all time, in the
    transaction that writes its end. Returns how many batches ended. Safe to run anywhere,
    any number at once; a batch that fails is logged and stops no other.
    """
    for batch_id in held_batches():
        _safely(partial(hold_back, batch_id), batch_id)
    return sum(_safely(partial(_settle, batch_id), batch_id) for batch_id in _over())


def _safely(call: Callable[[], int], batch_id: str) -> int:
    try:
        return call()
    except Exception:
        logger.exception("Batch %s could not be looked after; it is tried again.", batch_id)
        return 0


# Holding back


def hold_back(batch_id: str) -> int:
    """Pause the members of a held batch that wait or were sent; return how many.

    What runs goes on. Beyond ``HOLD_PAGES`` pages the next pass goes on; until then the
    dispatcher leaves the rest alone.
    """
    count = 0
    for _ in range(HOLD_PAGES):
        held = _hold_page(batch_id)
        count += held
        if held < conf.SWEEP_PAGE:
            return count
    request_dispatch()
    return count


def _hold_page(batch_id: str) -> int:
    """Pause one page, with the batch's row held: nobody resumes it in the meantime."""
    with brief():
        batch = _taken(batch_id)
        reason = batch and batches.held_reason(batch)
        if not batch or not reason:
            return 0
        crashpoints.reached("batch.holding")
        members = TaskLog.objects.filter(batch_id=batch_id)
        return lifecycle.hold_back(members, conf.SWEEP_PAGE, reason=reason)


def _taken(batch_id: str) -> TaskBatch | None:
    """Lock the row of a batch, unless somebody else has: nobody here waits for a caller.

    Not for long, since everybody would pass over what a process holds that sleeps.
    """
    rows = TaskBatch.objects.filter(pk=batch_id)
    return rows.first() if free_keys(rows) else None


# Ending


class Mark(NamedTuple):
    """How far the open batches have been looked at."""

    open_since: dt.datetime
    batch_id: str


class Round:
    """Goes through the open batches page by page, and begins again behind the last.

    Of few all are looked at each time; of many none is forgotten, and no sweep is long.
    """

    def __init__(self) -> None:
        self._mark: Mark | None = None

    def next_page(self) -> list[str]:
        """Return the ids of the next open batches."""
        rows = TaskBatch.objects.filter(open_since__isnull=False)
        if self._mark is not None:
            since, key = self._mark
            behind = Q(open_since__gt=since) | Q(open_since=since, pk__gt=key)
            rows = rows.filter(behind, open_since__gte=since)
        found = rows.order_by("open_since", "pk").values_list("open_since", "pk")
        page = [Mark(*row) for row in found[: conf.SWEEP_PAGE]]
        self._mark = page[-1] if len(page) == conf.SWEEP_PAGE else None
        return [mark.batch_id for mark in page]


_round = Round()


def _over() -> list[str]:
    ids = _round.next_page()
    return list(_ended(ids).values_list("pk", flat=True)) if ids else []


def _ended(ids: list[str]) -> Any:
    rows = TaskBatch.objects.filter(pk__in=ids, open_since__isnull=False)
    return rows.annotate(going=batches.unended_member()).filter(going=None)


def _settle(batch_id: str) -> int:
    """End one batch, if all of its members have ended; return 1 if so.

    Looks again while it holds the row: who adds or revives a member waits for that.
    """
    with brief():
        batch = _taken(batch_id)
        if batch is None or not _ended([batch_id]).exists():
            return 0
        crashpoints.reached("batch.over")
        TaskBatch.objects.filter(pk=batch_id).update(
            callbacks=_called_back(batch), open_since=None, ended_at=DatabaseNow()
        )
    crashpoints.reached("batch.settled")
    return 1


def _called_back(batch: TaskBatch) -> dict[str, Any]:
    """Insert the tasks that this end calls for and that were never inserted."""
    callbacks = dict(batch.callbacks)
    wanted = {"completion", _outcome(batch)}
    for event in sorted(wanted & callbacks.keys()):
        callback = callbacks[event]
        if callback.get("task") is None:
            row = TaskLog(**callback["columns"])
            row.save(force_insert=True, using=conf.DATABASE)
            callbacks[event] = {**callback, "task": row.pk}
            request_dispatch()
            crashpoints.reached("batch.called")
    return callbacks


def _outcome(batch: TaskBatch) -> str:
    pruned = sum(batch.pruned.get(one, 0) for one in (Status.FAILED, Status.CANCELED))
    rows = TaskBatch.objects.filter(pk=batch.pk)
    missed = rows.values_list(batches.unsuccessful_member(), flat=True).first()
    return "failure" if pruned or missed else "success"
