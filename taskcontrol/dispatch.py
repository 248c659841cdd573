"""Chooses which Pending tasks become Queued now, under limits, order, pauses and slots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import F, Q, Subquery

from . import broker, following, lifecycle
from .conf import conf
from .context import without_user_code
from .dialect import DatabaseNow, skip_locked
from .exceptions import BrokerUnavailable
from .fronts import Fronts, open_lanes, read_fronts
from .lanes import ready_lane
from .models import DispatcherState, TaskBatch, TaskLog, seconds
from .occupancy import read_occupancy
from .prepared import PreparedQuery
from .retries import retry_failed_tasks
from .settling import held_batches, settle_batches
from .slots import Slots
from .status import Status
from .suspension import can_dispatch_now, dispatcher_state, toggle_dispatcher

__all__ = ["can_dispatch_now", "dispatch_pending", "toggle_dispatcher"]


def dispatch_pending() -> int:
    """Make one pass: promote what may run now, send it, and return how many were promoted.

    Begins with ``retry_failed_tasks()``. Safe to run anywhere, any number at once: passes
    take turns at the dispatcher's row. When the broker does not take the messages, the
    tasks go back to Pending and BrokerUnavailable is raised.
    """
    return make_pass().promoted


class Pass(NamedTuple):
    """What one pass did."""

    promoted: int
    #: Whether short tasks wait in the broker: the slots are fed until the next pass.
    ahead: bool


def make_pass() -> Pass:
    """Do what ``dispatch_pending`` does, and tell a little more."""
    count, settled = 0, False
    with without_user_code():
        retry_failed_tasks()
        while True:
            turn = _take_turn_and_promote()
            if turn.open_batches and not settled:
                # Before the broker is asked, which may be away: batches end without it.
                settle_batches()
                settled = True
            if turn.broker_error:
                broker.check()
                _note_broker("")
                continue
            _send(turn.promoted)
            count += len(turn.promoted)
            if not turn.more:
                return Pass(count, turn.ahead)


@dataclass
class Turn:
    """What one turn at the dispatcher's row brought."""

    promoted: Sequence[TaskLog] = ()
    #: Some lane was read only in part: its rest may come before what others hold.
    more: bool = False
    #: Whether short tasks were sent ahead of a free slot, now or before.
    ahead: bool = False
    #: Why the last messages were not sent: the broker is asked before more are promoted.
    broker_error: str = ""
    #: Whether some batch may have to be ended or held back.
    open_batches: bool = False


def _take_turn_and_promote() -> Turn:
    with transaction.atomic(using=conf.DATABASE):
        state = _take_turn()
        if state is not None:
            return _use_turn(state)
    # Made outside of the pass: where two make it at once, MariaDB keeps a lock of the second.
    dispatcher_state()
    return _take_turn_and_promote()


def _use_turn(state: State) -> Turn:
    if state.expiring:
        lifecycle.expire(conf.SWEEP_PAGE)
    if state.coming:
        _let_in()
    freed = following.let_go() if state.following else 0
    turn = Turn()
    if not state.suspended and (state.waiting or state.coming or freed):
        turn = (
            Turn(broker_error=state.broker_error) if state.broker_error else _promote(state)
        )
    _sign(promoted=bool(turn.promoted))
    turn.open_batches = state.open_batch is not None
    return turn


def _promote(state: State) -> Turn:
    occupancy = read_occupancy()
    if not occupancy.slots.any_left():
        return Turn(ahead=occupancy.slots.ahead)
    lanes = open_lanes(occupancy)
    fronts = read_fronts(lanes, occupancy.slots)
    slots = deepcopy(occupancy.slots)
    chosen, more = _choose(fronts, slots)
    held = held_batches() if state.open_batch else []
    free = _lock(chosen, held)
    if len(free) < len(chosen):
        # Somebody is changing some of the first rows, or their batch is held back: others
        # take their places.
        fronts = read_fronts(lanes, occupancy.slots, beyond=conf.DISPATCH_PAGE)
        free = _lock((front.task_id for front in fronts.rows), held)
        rows = [front for front in fronts.rows if front.task_id in free]
        slots = occupancy.slots
        chosen, more = _choose(fronts._replace(rows=rows), slots)
    promoted = lifecycle.promote(chosen, site=state.site)
    place = {task_id: number for number, task_id in enumerate(chosen)}
    promoted.sort(key=lambda task: place[task.pk])
    return Turn(promoted, more=more and bool(promoted), ahead=slots.ahead)


class State(NamedTuple):
    """The dispatcher's row, and what there is to do."""

    site: str
    suspended: bool
    broker_error: str
    #: The first task that stands in a lane, comes to its ``run_at``, waits for the end of
    #: another, passes its ``expires_at``.
    waiting: int | None
    coming: int | None
    following: int | None
    expiring: int | None
    #: The first batch that has members which may not have ended.
    open_batch: str | None


def _take_turn() -> State | None:
    """Lock the dispatcher's row: one pass at a time, in whatever process.

    The lock is the transaction's own, so that a crash frees it; what is due is asked in
    the same statement, so that an idle pass costs only this one. None without the row.
    """
    rows = _TURN.rows(conf.DATABASE)
    return State(*rows[0]) if rows else None


def _build_turn() -> Any:
    waiting = TaskLog.objects.filter(ready_lane__isnull=False)
    expiring = TaskLog.objects.filter(
        ended_at=None, expires_at__isnull=False, expires_at__lte=DatabaseNow()
    ).exclude(status=Status.STARTED)
    open_batches = TaskBatch.objects.filter(open_since__isnull=False)
    return (
        DispatcherState.objects.select_for_update()
        .filter(pk=DispatcherState.THE_ONE)
        .annotate(
            waiting=_first(waiting, "ready_lane"),
            coming=_first(_coming(), "run_at"),
            following=_first(following.followers(), "after_id"),
            expiring=_first(expiring, "expires_at"),
            open_batch=_first(open_batches, "open_since"),
        )
        .values_list(
            "site",
            "suspended",
            "broker_error",
            "waiting",
            "coming",
            "following",
            "expiring",
            "open_batch",
        )
    )


def _first(rows: Any, column: str) -> Subquery:
    """Return the first by an indexed column: NULL when there is none.

    Of EXISTS the planner thinks that any row will do, and reads the table from its start,
    past all that have ended.
    """
    return Subquery(rows.order_by(column).values("pk")[:1])


_TURN = PreparedQuery(_build_turn)


def _coming() -> Any:
    return TaskLog.objects.filter(
        status=Status.PENDING,
        ready_lane=None,
        after=None,
        run_at__isnull=False,
        run_at__lte=DatabaseNow(),
        occupies=False,
    )


def _sign(*, promoted: bool) -> None:
    """Leave the sign of life of this pass, at most once a second when nothing moved."""
    now = DatabaseNow()
    values = {"last_pass_at": now}
    rows = DispatcherState.objects.filter(pk=DispatcherState.THE_ONE)
    if promoted:
        values["last_promoted_at"] = now
    else:
        rows = rows.filter(Q(last_pass_at=None) | Q(last_pass_at__lt=now - seconds(1)))
    rows.update(**values)


def _let_in() -> None:
    """Put the tasks whose ``run_at`` has come into their lanes."""
    due = _coming().order_by("run_at")
    ids = list(skip_locked(due).values_list("pk", flat=True)[: conf.DISPATCH_PAGE * 10])
    TaskLog.objects.filter(pk__in=ids, status=Status.PENDING).update(
        ready_lane=ready_lane(), rev=F("rev") + 1
    )


def _choose(fronts: Fronts, slots: Slots) -> tuple[list[int], bool]:
    """Give the slots to the rows in order; a full type or queue never holds up another.

    Stops when a lane that was read only in part is used up, since a row that was not read
    might come before all that are left; returns the chosen and whether it stopped so. A
    queue whose first row finds no slot is closed: what is short and might be sent ahead of
    a slot would overtake it, again and again.
    """
    chosen: list[int] = []
    left = Counter(front.lane.number for front in fronts.rows)
    places: dict[str, int] = {}
    closed: set[str] = set()
    for front in fronts.rows:
        lane = front.lane
        free = places.setdefault(lane.method, lane.limit)
        left[lane.number] -= 1
        if lane.queue in closed or free <= 0:
            continue
        if not slots.take(lane.queue, lane.usual_seconds):
            closed.add(lane.queue)
            continue
        places[lane.method] = free - 1
        chosen.append(front.task_id)
        if len(chosen) == conf.DISPATCH_PAGE:
            return chosen, slots.any_left()
        ran_out = free > 1 and not left[lane.number] and lane.number in fronts.cut
        if ran_out and slots.has_room(lane.queue, lane.usual_seconds):
            return chosen, True
    return chosen, False


def _lock(ids: Iterable[int], held: Sequence[str]) -> set[int]:
    """Lock these rows, without those that somebody is changing or whose batch is held."""
    rows = TaskLog.objects.filter(pk__in=list(ids), status=Status.PENDING).order_by("pk")
    if held:
        rows = rows.filter(Q(batch_id=None) | ~Q(batch_id__in=held))
    return set(skip_locked(rows).values_list("pk", flat=True))


def _send(promoted: Sequence[TaskLog]) -> None:
    """Publish after the commit; what the broker does not take goes back to Pending."""
    messages = [
        broker.Message(
            task.pk, task.attempt, task.queue, str(task.celery_task_id), task.timeout
        )
        for task in promoted
    ]
    try:
        broker.publish(messages)
    except BrokerUnavailable as error:
        lifecycle.unsend(
            [(one.task_id, one.attempt) for one in messages], detail=str(error)
        )
        _note_broker(str(error))
        raise


def _note_broker(error: str) -> None:
    """Show on the dispatcher's row why nothing is sent; empty when all is well."""
    DispatcherState.objects.filter(pk=DispatcherState.THE_ONE).update(
        broker_error=error[:300]
    )
