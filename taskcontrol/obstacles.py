"""What stands between a waiting task and a slot, seen as a dispatch pass sees it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, OuterRef, Q, Subquery

from .batches import held_reason
from .closures import moment_of
from .counting import Capped
from .models import DispatcherState, QueueState, TaskBatch, TaskLog, TaskType, Worker
from .occupancy import Occupancy, live_workers, read_occupancy
from .people import name_of
from .rates import Sends, opens_at, rate_of
from .standing import ahead_of
from .status import ACTIVE, Status
from .suspension import dispatcher_state
from .wording import duration, listed, moment

#: Holders of places that a reason names.
MOST_HOLDERS = 20
#: Seconds without a pass after which the dispatcher counts as gone; a pass is due each second.
PASS_OVERDUE = 10.0


@dataclass(frozen=True)
class Reason:
    """One sentence about why a task is not running."""

    #: A word for programs; stays the same when the sentence changes.
    code: str
    text: str
    #: When this reason ends by itself, if that is known.
    until: datetime | None = None
    #: The ids of the tasks that are in the way, the longest running first.
    holders: tuple[int, ...] = ()
    #: When the first of them should be through, going by what such tasks usually take.
    expected: datetime | None = None
    #: The name of what is in the way, where it is no task: a queue, a batch, a lock.
    name: str = ""


@dataclass
class Scene:
    """What a pass would read about one task."""

    task: TaskLog
    now: datetime
    state: DispatcherState
    kind: TaskType
    workers: list[Worker]
    occupancy: Occupancy

    @property
    def sends(self) -> Sends:
        """What was sent lately of types with a rate."""
        return Sends(self.state.sent, round(self.now.timestamp() * 1_000_000))

    @classmethod
    def of(cls, task: TaskLog, now: datetime) -> Scene:
        """Read it."""
        kind = TaskType.objects.filter(method=task.method).first()
        serving = [worker for worker in live_workers() if task.queue in worker.queues]
        return cls(
            task=task,
            now=now,
            state=dispatcher_state(),
            kind=kind or TaskType(method=task.method),
            workers=serving,
            occupancy=read_occupancy(),
        )


def of_pending(task: TaskLog, now: datetime) -> list[Reason]:
    """Return why the dispatcher does not promote ``task``, which it might otherwise."""
    scene = Scene.of(task, now)
    reasons = [
        *_suspended(scene),
        *_paused_type(scene),
        *_paused_queue(scene),
        *of_batch(task),
        *_broker(scene),
        *_no_worker(scene),
        *_no_dispatcher(scene),
        *_limit(scene),
        *_rate(scene),
        *_slots(scene),
    ]
    return [*reasons, *_line(scene)]


def of_queued(task: TaskLog, now: datetime) -> list[Reason]:
    """Return why no worker claims ``task``, whose message was sent."""
    scene = Scene.of(task, now)
    return [*_broker(scene), *_no_worker(scene), *_full_workers(scene)]


def of_batch(task: TaskLog) -> Iterator[Reason]:
    """Say that the batch of a task is held back, if it is."""
    batch = TaskBatch.objects.filter(pk=task.batch_id).first() if task.batch_id else None
    why = held_reason(batch) if batch is not None else ""
    if batch is not None and why:
        told = f"{why[0].upper()}{why[1:]}"
        text = f"{told}; resume_batch({batch.pk!r}) lets it go on."
        yield Reason("batch_held", text, name=batch.pk)


def _suspended(scene: Scene) -> Iterator[Reason]:
    state = scene.state
    if state.suspended:
        who = name_of(state.suspended_by_id)
        since = f" since {moment(state.suspended_at)}" if state.suspended_at else ""
        yield Reason(
            "suspended",
            f"The dispatcher is suspended{since} by {who}{_why(state.suspended_reason)}. "
            "Nothing is promoted until it is resumed.",
        )


def _paused_type(scene: Scene) -> Iterator[Reason]:
    yield from _paused(
        "type_paused", f"Its type {scene.kind.method}", scene.kind, scene.now
    )


def _paused_queue(scene: Scene) -> Iterator[Reason]:
    queue = QueueState.objects.filter(name=scene.task.queue).first()
    if queue is not None:
        yield from _paused("queue_paused", f"The queue {queue.name}", queue, scene.now)


def _paused(code: str, what: str, scope: Any, now: datetime) -> Iterator[Reason]:
    until = scope.paused_until
    if scope.paused_at is None or (until is not None and until <= now):
        return
    end = f"until {moment(until)}" if until else "until it is resumed"
    yield Reason(
        code,
        f"{what} is paused since {moment(scope.paused_at)} by {name_of(scope.paused_by_id)} "
        f"{end}{_why(scope.paused_reason)}.",
        until=until,
        name=str(scope),
    )


def _why(reason: str) -> str:
    return f" ({reason})" if reason else ""


def _broker(scene: Scene) -> Iterator[Reason]:
    if scene.state.broker_error:
        yield Reason("broker", f"Nothing can be sent: {scene.state.broker_error}")


def _no_worker(scene: Scene) -> Iterator[Reason]:
    if not scene.workers:
        queue = scene.task.queue
        yield Reason(
            "no_worker",
            f"No live worker takes tasks from the queue {queue!r}. Start one: "
            f"manage.py taskcontrol worker --queue {queue}",
            name=queue,
        )


def _no_dispatcher(scene: Scene) -> Iterator[Reason]:
    last = scene.state.last_pass_at
    if scene.workers and last and scene.now - last > timedelta(seconds=PASS_OVERDUE):
        yield Reason(
            "no_dispatcher",
            f"The last pass of the dispatcher was {_ago(scene.now - last)} ago; one is due "
            "each second. Look at the logs of the workers.",
        )


def _limit(scene: Scene) -> Iterator[Reason]:
    # Until a worker's child has looked into the code, the limit may be any.
    unsure = scene.kind.declared is None
    limit = 1 if unsure else scene.kind.concurrency_limit
    held = scene.occupancy.by_type[scene.task.method]
    if limit and held >= limit:
        holders = _holders(Q(method=scene.task.method))
        why = "; until a worker has read its limit in the code, one runs" if unsure else ""
        yield Reason(
            "limit",
            f"{held} of {limit} places of its type are taken, by {_named(holders)}"
            f"{_free_in(holders, scene.now)}{why}.",
            holders=_ids(holders),
            expected=_first_end(holders, scene.now),
            name=scene.task.method,
        )


def _rate(scene: Scene) -> Iterator[Reason]:
    rate, method = rate_of(scene.kind.rate_limit), scene.task.method
    sends = scene.sends
    if rate is None or sends.left(method, str(rate)):
        return
    until = moment_of(opens_at(rate, sends.by_method[method], sends.now))
    yield Reason(
        "rate",
        f"Of its type at most {rate.in_words} may start; the next may at {moment(until)}.",
        until=until,
        name=method,
    )


def _slots(scene: Scene) -> Iterator[Reason]:
    usual = scene.kind.usual_seconds
    if scene.workers and not scene.occupancy.slots.take(scene.task.queue, usual):
        yield from _all_busy(scene)


def _full_workers(scene: Scene) -> Iterator[Reason]:
    pools = scene.occupancy.slots.pools
    mine = [pool for pool in pools if scene.task.queue in pool.queues]
    if mine and all(pool.busy >= pool.size for pool in mine):
        yield from _all_busy(scene)


def _all_busy(scene: Scene) -> Iterator[Reason]:
    size = sum(worker.pool_size for worker in scene.workers)
    queues = {queue for worker in scene.workers for queue in worker.queues}
    sent = Q(status=Status.QUEUED, worker=None, queue__in=queues)
    holders = _holders(sent | Q(worker__in=scene.workers), but=scene.task)
    slots = "The only slot" if size == 1 else f"All {size:,} slots"
    yield Reason(
        "slots",
        f"{slots} of the workers for the queue {scene.task.queue!r} "
        f"{'is' if size == 1 else 'are'} taken, by {_named(holders)}"
        f"{_free_in(holders, scene.now)}.",
        holders=_ids(holders),
        expected=_first_end(holders, scene.now),
        name=scene.task.queue,
    )


def _holders(which: Q, *, but: TaskLog | None = None) -> list[TaskLog]:
    rows = TaskLog.objects.filter(which, occupies=True).exclude(pk=but.pk if but else None)
    usual = TaskType.objects.filter(method=OuterRef("method")).values("usual_seconds")[:1]
    oldest_first = rows.order_by(F("started_at").asc(nulls_last=True), "pk")
    told = oldest_first.annotate(usual=Subquery(usual)).only("status", "started_at")
    return list(told[:MOST_HOLDERS])


def _first_end(holders: list[TaskLog], now: datetime) -> datetime | None:
    """Return when the first of them should end; None when nobody can tell.

    What runs for longer than usual may end in this moment or never.
    """
    ends = [one for one in map(usual_end, holders) if one is not None and one > now]
    return min(ends, default=None)


def usual_end(row: Any) -> datetime | None:
    """Return when ``row``, with the ``usual`` seconds of its type, should end."""
    if row.status != Status.STARTED or row.started_at is None or row.usual is None:
        return None
    end: datetime = row.started_at + timedelta(seconds=row.usual)
    return end


def _free_in(holders: list[TaskLog], now: datetime) -> str:
    end = _first_end(holders, now)
    if end is None:
        return ""
    return f"; the first should be free in about {_ago(end - now)}"


def _ids(holders: list[TaskLog]) -> tuple[int, ...]:
    return tuple(row.pk for row in holders)


def _named(holders: list[TaskLog]) -> str:
    names = [
        str(row.pk) if row.status in ACTIVE else f"{row.pk} (stopping)" for row in holders
    ]
    return f"{'task' if len(names) == 1 else 'tasks'} {listed(names)}"


def _line(scene: Scene) -> Iterator[Reason]:
    task = scene.task
    if task.ready_lane is None:
        return
    ahead = ahead_of(task, scene.kind.priority, scene.occupancy.by_type, scene.sends)
    yield from _ahead("ahead_in_type", ahead.same_type, "of its own type")
    yield from _ahead("ahead_in_queue", ahead.same_queue, "of other types in its queue")


def _ahead(code: str, number: int, which: str) -> Iterator[Reason]:
    if number:
        alone = number == 1 and not isinstance(number, Capped)
        words = f"task {which} goes first" if alone else f"tasks {which} go first"
        yield Reason(code, f"{number} {words}.")


def _ago(passed: timedelta) -> str:
    return duration(passed.total_seconds())
