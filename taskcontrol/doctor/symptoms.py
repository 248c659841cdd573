"""Examines what the rows tell: who is there, what waits, what does not move, what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.db.models import Count
from django.db.models.functions import Coalesce

from .. import monitoring
from ..conf import conf
from ..dialect import DatabaseNow
from ..explanation import explain
from ..models import TaskLog, seconds
from ..monitoring import QueueNumbers, Snapshot
from ..obstacles import PASS_OVERDUE
from ..status import ACTIVE, Status
from ..wording import counted, duration, listed
from .findings import Finding, Level

#: Seconds that a task may wait before it is worth a word.
WAITED_LONG = 60.0
#: Seconds of failures that are told.
LATELY = 3600.0


def examine_tasks() -> Iterator[Finding]:
    """Yield what is found of the dispatcher, beat, workers, queues and tasks."""
    now = monitoring.snapshot()
    yield from _dispatcher(now)
    yield from _beat(now)
    yield from _workers(now)
    anybody = any(worker.state == "live" for worker in now.workers)
    for queue in now.queues:
        if anybody or queue.pending or queue.queued:
            yield from _queue(queue)
    yield from _unbegun()
    yield from _stopping()
    yield from _failures()


def _dispatcher(now: Snapshot) -> Iterator[Finding]:
    state = now.dispatcher
    if state.suspended:
        yield Finding(
            Level.WARN,
            "Dispatcher",
            str(state),
            "When the reason is gone: manage.py taskcontrol resume-dispatch",
        )
        return
    passed = state.last_pass_seconds
    if passed is None or passed > PASS_OVERDUE:
        yield Finding(
            Level.FAIL,
            "Dispatcher",
            f"{state}; a pass is due each second",
            "Each worker makes them: start one, or look into its log for 'dispatch pass'.",
        )
    else:
        level = Level.FAIL if state.broker_error else Level.OK
        yield Finding(level, "Dispatcher", str(state))


def _beat(now: Snapshot) -> Iterator[Finding]:
    seen = now.dispatcher.beat_seconds
    told = "never seen" if seen is None else f"last seen {duration(seconds=seen)} ago"
    if now.dispatcher.beat_is_silent:
        yield Finding(
            Level.WARN,
            "Beat",
            f"{told}; pruning and your own periodic tasks do not run",
            "Start it: manage.py taskcontrol beat. Its tasks need a worker and the broker.",
        )
    else:
        yield Finding(Level.OK, "Beat", told)


def _workers(now: Snapshot) -> Iterator[Finding]:
    by_state = Counter(worker.state for worker in now.workers)
    if by_state["live"]:
        busy = sum(worker.busy for worker in now.workers if worker.state == "live")
        slots = sum(worker.slots for worker in now.workers if worker.state == "live")
        live = counted(by_state["live"], "worker")
        yield Finding(Level.OK, "Workers", f"{live} live, {busy} of {slots} slots busy")
    else:
        yield Finding(
            Level.FAIL, "Workers", "none is live", "Start one: manage.py taskcontrol worker"
        )
    for state, advice in _BAD_STATES.items():
        names = [worker.name for worker in now.workers if worker.state == state]
        if names:
            yield Finding(Level.WARN, "Workers", f"{state}: {listed(names)}", advice)


_BAD_STATES = {
    "not consuming": "Its event loop hangs: see what it does with py-spy, and restart it.",
    "silent": "If nobody declares it lost, no sweep runs: manage.py taskcontrol rescue",
    "lost": "Look into its log and the kernel's: out of memory, a crash, a killed machine?",
}


def _queue(queue: QueueNumbers) -> Iterator[Finding]:
    subject = f"Queue {queue.name}"
    waiting = f"{counted(queue.pending, 'task')} waiting"
    if not queue.workers:
        yield Finding(
            Level.FAIL if queue.pending or queue.queued else Level.WARN,
            subject,
            f"{waiting}, and no live worker takes from it",
            f"Start one: manage.py taskcontrol worker --queue {queue.name}",
        )
    elif queue.oldest_task is None or (queue.oldest_seconds or 0) < WAITED_LONG:
        yield Finding(Level.OK, subject, waiting)
    else:
        yield Finding(
            Level.WARN,
            subject,
            f"{waiting}, task {queue.oldest_task} for {duration(queue.oldest_seconds or 0)}",
            explain(queue.oldest_task)[0].text,
        )


def _unbegun() -> Iterator[Finding]:
    rows = TaskLog.objects.filter(
        occupies=True,
        status=Status.QUEUED,
        sent_at__lt=DatabaseNow() - seconds(conf.RESEND_AFTER),
    ).order_by("sent_at")
    yield from _late(rows.filter(worker=None), "sent", "not claimed")
    yield from _late(rows.filter(worker__isnull=False), "claimed", "no begin is written")


def _late(rows: Any, done: str, missing: str) -> Iterator[Finding]:
    ids = list(rows.values_list("pk", flat=True)[:1000])
    if ids:
        yield Finding(
            Level.WARN,
            f"{done.capitalize()} tasks",
            f"{counted(len(ids), 'task')} {done} over {duration(conf.RESEND_AFTER)} ago and "
            f"{missing}: {listed(ids)}",
            f"Of task {ids[0]}: {' '.join(one.text for one in explain(ids[0]))}",
        )


def _stopping() -> Iterator[Finding]:
    since = Coalesce("cancel_requested_at", "ended_at", "created_at")
    patience = 2 * conf.CANCEL_GRACE + conf.HEARTBEAT_INTERVAL
    rows = TaskLog.objects.filter(occupies=True).exclude(status__in=ACTIVE)
    late = rows.annotate(since=since).filter(since__lt=DatabaseNow() - seconds(patience))
    found = list(late.select_related("worker").order_by("since")[:1000])
    if found:
        where = sorted({row.worker.hostname for row in found if row.worker is not None})
        yield Finding(
            Level.WARN,
            "Stopping",
            f"{counted(len(found), 'body', 'bodies')} told to stop and not gone: tasks "
            f"{listed([row.pk for row in found])} on {listed(where) or 'unknown workers'}",
            "They keep their places. On threads and solo pools a body must ask "
            "check_canceled(); elsewhere restart the worker.",
        )


def _failures() -> Iterator[Finding]:
    recent = DatabaseNow() - seconds(LATELY)
    rows = TaskLog.objects.filter(
        status=Status.FAILED, retry_at=None, ended_at__gt=recent
    ).order_by()
    groups = rows.values("method").annotate(n=Count("pk"))
    by_type = Counter({group["method"]: group["n"] for group in groups})
    if not by_type:
        yield Finding(Level.OK, "Failures", f"none within {duration(LATELY)}")
        return
    told = [f"{method} {number:,}" for method, number in by_type.most_common()]
    yield Finding(
        Level.WARN,
        "Failures",
        f"{counted(by_type.total(), 'task')} failed within {duration(LATELY)}: "
        f"{listed(told, 5)}",
        "Their errors stand in admin; manage.py taskcontrol retry ID runs one again.",
    )
