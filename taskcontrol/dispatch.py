"""Chooses which Pending tasks become Queued now, under limits, order, pauses and slots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Exists, F, Q

from . import broker, lifecycle, tasktypes
from .conf import conf
from .context import without_user_code
from .dialect import DatabaseNow, lane_fronts, lane_heads, skip_locked
from .exceptions import BrokerUnavailable
from .lanes import ready_lane
from .models import DispatcherState, QueueState, TaskLog, TaskType, seconds
from .occupancy import Occupancy, read_occupancy
from .prepared import PreparedQuery
from .retries import retry_failed_tasks
from .slots import Slots
from .status import Status
from .suspension import can_dispatch_now, dispatcher_state, toggle_dispatcher

__all__ = ["can_dispatch_now", "dispatch_pending", "toggle_dispatcher"]

UNLIMITED = 1 << 30


@dataclass
class Lane:
    """One line with work, and what its type and its queue say."""

    number: int
    method: str
    queue: str
    priority: int
    limit: int
    usual_seconds: float | None


class Front(NamedTuple):
    """A ready row; sorts in the order of promotion."""

    behind: bool
    urgency: int
    position: int
    batch_order: int
    task_id: int
    lane: Lane


def dispatch_pending() -> int:
    """Make one pass: promote what may run now, send it, and return how many were promoted.

    Begins with ``retry_failed_tasks()``. Safe to run anywhere, any number at once: passes
    take turns at the dispatcher's row. When the broker does not take the messages, the
    tasks go back to Pending and BrokerUnavailable is raised.
    """
    count = 0
    with without_user_code():
        retry_failed_tasks()
        while True:
            turn = _take_turn_and_promote()
            if turn.broker_error:
                broker.check()
                _note_broker("")
                continue
            _send(turn.promoted)
            count += len(turn.promoted)
            if not turn.more:
                return count


@dataclass
class Turn:
    """What one turn at the dispatcher's row brought."""

    promoted: Sequence[TaskLog] = ()
    #: Some lane was read only in part: its rest may come before what others hold.
    more: bool = False
    #: Why the last messages were not sent: the broker is asked before more are promoted.
    broker_error: str = ""


def _take_turn_and_promote() -> Turn:
    with transaction.atomic(using=conf.DATABASE):
        state = _take_turn()
        if state.expiring:
            lifecycle.expire(conf.SWEEP_PAGE)
        if state.coming:
            _let_in()
        turn = Turn()
        if not state.suspended and (state.waiting or state.coming):
            turn = (
                Turn(broker_error=state.broker_error)
                if state.broker_error
                else _promote(state)
            )
        _sign(promoted=bool(turn.promoted))
        return turn


def _promote(state: State) -> Turn:
    occupancy = read_occupancy()
    if not occupancy.slots.any_left():
        return Turn()
    lanes = _open_lanes(occupancy)
    fronts, cut = _fronts(lanes, occupancy.slots)
    chosen, more = _choose(fronts, cut, occupancy.slots)
    promoted = lifecycle.promote(_lock(chosen), site=state.site) if chosen else []
    place = {task_id: number for number, task_id in enumerate(chosen)}
    promoted.sort(key=lambda task: place[task.pk])
    return Turn(promoted, more=more and bool(promoted))


class State(NamedTuple):
    """The dispatcher's row, and what there is to do."""

    site: str
    suspended: bool
    broker_error: str
    #: Whether tasks stand in a lane, come to their ``run_at``, or pass their ``expires_at``.
    waiting: bool
    coming: bool
    expiring: bool


def _take_turn() -> State:
    """Lock the dispatcher's row: one pass at a time, in whatever process.

    The lock is the transaction's own, so that a crash frees it; what is due is asked in
    the same statement, so that an idle pass costs only this one.
    """
    rows = _TURN.rows(conf.DATABASE)
    if not rows:
        dispatcher_state()
        return _take_turn()
    return State(*rows[0])


def _build_turn() -> Any:
    expiring = TaskLog.objects.filter(
        ended_at=None, expires_at__isnull=False, expires_at__lte=DatabaseNow()
    ).exclude(status=Status.STARTED)
    return (
        DispatcherState.objects.select_for_update()
        .filter(pk=DispatcherState.THE_ONE)
        .annotate(
            waiting=Exists(TaskLog.objects.filter(ready_lane__isnull=False)),
            coming=Exists(_coming()),
            expiring=Exists(expiring),
        )
        .values_list("site", "suspended", "broker_error", "waiting", "coming", "expiring")
    )


_TURN = PreparedQuery(_build_turn)


def _coming() -> Any:
    return TaskLog.objects.filter(
        status=Status.PENDING,
        ready_lane=None,
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


def _open_lanes(occupancy: Occupancy) -> list[Lane]:
    """Return the lanes with work that nothing holds shut, each with its free places."""
    heads = lane_heads(
        conf.DATABASE,
        TaskLog._meta.db_table,
        TaskType._meta.db_table,
        QueueState._meta.db_table,
    )
    unknown = {method for _, method, _, _, kind, *_ in heads if kind is None}
    if unknown:
        tasktypes.ensure(unknown)
        return _open_lanes(occupancy)
    lanes = []
    for number, method, queue, own, _kind, priority, limit, usual, held in heads:
        free = limit - occupancy.by_type[method] if limit else UNLIMITED
        if not held and free > 0 and occupancy.slots.room(queue):
            urgency = priority if own is None else own
            lanes.append(Lane(number, method, queue, urgency, free, usual))
    return lanes


def _fronts(lanes: Sequence[Lane], slots: Slots) -> tuple[list[Front], set[int]]:
    """Read the first rows of each lane: enough for the slots, in sum not much more.

    Returns them in the order of promotion, and the lanes that may hold more than was read.
    """
    if not lanes:
        return [], set()
    share = 1 + 2 * conf.DISPATCH_PAGE // len(lanes)
    wanted = {
        lane.number: min(lane.limit, slots.room(lane.queue), share, conf.DISPATCH_PAGE)
        for lane in lanes
    }
    by_number = {lane.number: lane for lane in lanes}
    rows = lane_fronts(conf.DATABASE, TaskLog._meta.db_table, wanted.items())
    fronts = []
    for task_id, number, at_front, position, order in rows:
        lane = by_number[number]
        fronts.append(
            Front(not at_front, -lane.priority, position, order, task_id, lane)
        )
    read = Counter(front.lane.number for front in fronts)
    cut = {number for number, count in wanted.items() if read[number] == count}
    return sorted(fronts, key=lambda front: front[:5]), cut


def _choose(fronts: Sequence[Front], cut: set[int], slots: Slots) -> tuple[list[int], bool]:
    """Give the slots to the rows in order; a full type or queue never holds up another.

    Stops when a lane that was read only in part is used up, since a row that was not read
    might come before all that are left; returns the chosen and whether it stopped so.
    """
    chosen: list[int] = []
    left = Counter(front.lane.number for front in fronts)
    places: dict[str, int] = {}
    for front in fronts:
        lane = front.lane
        free = places.setdefault(lane.method, lane.limit)
        left[lane.number] -= 1
        if free > 0 and slots.take(lane.queue, lane.usual_seconds):
            places[lane.method] = free - 1
            chosen.append(front.task_id)
        ran_out = not left[lane.number] and lane.number in cut
        free_place = places[lane.method] > 0
        if ran_out and free_place and slots.has_room(lane.queue, lane.usual_seconds):
            return chosen, True
        if len(chosen) == conf.DISPATCH_PAGE:
            return chosen, True
    return chosen, False


def _lock(ids: Sequence[int]) -> list[int]:
    """Lock the chosen rows, leaving out those that somebody else is changing."""
    rows = TaskLog.objects.filter(pk__in=ids, status=Status.PENDING).order_by("pk")
    return list(skip_locked(rows).values_list("pk", flat=True))


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
