"""The dispatcher's row: who has it makes the pass, reads there what is due, and signs."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, NamedTuple

from django.db.models import Case, F, IntegerField, Subquery, TextField, When
from django.db.models.functions import Cast

from . import closures, following
from .brief import bounds
from .conf import conf
from .dialect import DatabaseMicroseconds, DatabaseNow, microseconds_now
from .lockwaits import patience
from .models import DispatcherState, TaskBatch, TaskLog, seconds
from .prepared import PreparedQuery, PreparedUpdate
from .rates import Sends
from .status import Status


class State(NamedTuple):
    """The dispatcher's row, and what there is to do."""

    site: str
    suspended: bool
    broker_error: str
    #: The first task that is to be retried now, stands in a lane, comes to its ``run_at``,
    #: waits for the end of another, passes its ``expires_at``.
    retrying: int | None
    waiting: int | None
    coming: int | None
    following: int | None
    expiring: int | None
    #: The first batch that has members which may not have ended.
    open_batch: str | None
    #: The microsecond of this pass, and what the one before found closed, as JSON.
    now: int
    closed: str
    #: What was sent lately of types with a rate, as JSON.
    sent: str
    #: Whether the sign of life, and that of the last promotion, is of this second.
    signed: int
    signed_promotion: int

    @property
    def idle(self) -> bool:
        """Whether there is nothing that a pass could do."""
        due = (self.waiting, self.coming, self.following, self.expiring)
        return not any(one is not None for one in due)

    @property
    def was_closed(self) -> Mapping[str, int]:
        """What the pass before found closed, with the microsecond since when."""
        found: dict[str, int] = json.loads(self.closed)
        return found

    @property
    def sends(self) -> Sends:
        """What was sent lately of types with a rate, as of the begin of this pass."""
        return Sends(json.loads(self.sent), self.now)


def take_turn() -> State | None:
    """Lock the dispatcher's row: one pass at a time, in whatever process.

    The lock is the transaction's own, so that a crash frees it; who sleeps with it for half
    of the time after which a worker is lost, loses it too. What is due is asked in the same
    statement, so that an idle pass costs only this one. None without the row.
    """
    each = (*bounds(conf.DATABASE), *patience(conf.DATABASE))
    bound = [one.template for one in each]
    rows = _TURN.rows(conf.DATABASE, *bound)
    return State(*rows[0][: len(State._fields)]) if rows else None


def _build_turn() -> Any:
    waiting = TaskLog.objects.filter(ready_lane__isnull=False)
    expiring = TaskLog.objects.filter(
        ended_at=None, expires_at__isnull=False, expires_at__lte=DatabaseNow()
    ).exclude(status=Status.STARTED)
    open_batches = TaskBatch.objects.filter(open_since__isnull=False)
    return (
        DispatcherState.objects.select_for_update()
        .filter(*patience(conf.DATABASE), pk=DispatcherState.THE_ONE)
        .annotate(
            retrying=_first(retries_due(), "retry_at"),
            waiting=_first(waiting, "ready_lane"),
            coming=_first(coming(), "run_at"),
            following=_first(following.followers(), "after_id"),
            expiring=_first(expiring, "expires_at"),
            open_batch=_first(open_batches, "open_since"),
            now=DatabaseMicroseconds(),
            was_closed=Cast("closed", TextField()),
            was_sent=Cast("sent", TextField()),
            signed=_lately("last_pass_at"),
            signed_promotion=_lately("last_promoted_at"),
        )
        .values_list(
            "site",
            "suspended",
            "broker_error",
            "retrying",
            "waiting",
            "coming",
            "following",
            "expiring",
            "open_batch",
            "now",
            "was_closed",
            "was_sent",
            "signed",
            "signed_promotion",
            *bounds(conf.DATABASE),
        )
    )


def _lately(column: str) -> Case:
    """Return whether a time of the row is within this second.

    One that lies ahead, since the clock was set back, is none.
    """
    second = (DatabaseNow() - seconds(1), DatabaseNow())
    when = When(**{f"{column}__range": second}, then=1)
    return Case(when, default=0, output_field=IntegerField())


def _first(rows: Any, column: str) -> Subquery:
    """Return the first by an indexed column: NULL when there is none.

    Of EXISTS the planner thinks that any row will do, and reads the table from its start,
    past all that have ended.
    """
    return Subquery(rows.order_by(column).values("pk")[:1])


_TURN = PreparedQuery(_build_turn)


def retries_due() -> Any:
    """Return the failed tasks whose automatic retry is due."""
    return TaskLog.objects.filter(
        retry_at__lte=DatabaseNow(), retry_count__lt=F("max_retries")
    )


def coming() -> Any:
    """Return the tasks whose ``run_at`` has come and that stand in no lane yet."""
    return TaskLog.objects.filter(
        status=Status.PENDING,
        ready_lane=None,
        after=None,
        run_at__isnull=False,
        run_at__lte=DatabaseNow(),
        occupies=False,
    )


def sign(
    state: State,
    *,
    promoted: bool,
    closed: Collection[str],
    rated: Mapping[tuple[str, str], int],
) -> bool:
    """Leave the sign of life of this pass: once a second, and when it has more to tell.

    Returns whether anything was written.
    """
    given: dict[str, Any] = {}
    before = state.was_closed
    after = closures.since(before, closed, state.now)
    if after != before:
        closures.keep_what_is_over(before, after, state.now)
        given["closed"] = after
    if rated:
        # As of the end of the pass, while it was decided as of its begin: so nothing leaves
        # the period too early, however long the pass took.
        sends = state.sends._replace(now=microseconds_now(conf.DATABASE))
        given["sent"] = sends.with_more(rated)
    if not given and (state.signed_promotion if promoted else state.signed):
        return False
    _signing(promoted, tuple(given)).run(conf.DATABASE, given)
    return True


@cache
def _signing(promoted: bool, told: tuple[str, ...]) -> PreparedUpdate:  # noqa: FBT001 - cached
    def build(p: Any) -> Any:
        now = DatabaseNow()
        rows = DispatcherState.objects.filter(pk=DispatcherState.THE_ONE)
        values = {"last_pass_at": now, **{name: p(name, name) for name in told}}
        return rows, {**values, "last_promoted_at": now} if promoted else values

    return PreparedUpdate(DispatcherState, build)
