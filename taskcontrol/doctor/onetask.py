"""Walks the procedure for one task that seems stuck, and says at each step what it found."""

from __future__ import annotations

from collections.abc import Iterator

from ..dialect import DatabaseNow
from ..explanation import explain
from ..models import Lock, TaskAttempt, TaskEvent, TaskLog, TaskType
from ..progress import said_of
from ..status import Status
from ..wording import counted, duration, listed, moment
from .diagnosis import examine
from .findings import Finding, Level
from .process import examine_process

#: How many times what its type usually takes a run may last before it is worth a word.
UNUSUAL = 10
#: Seconds that are no reason to wonder, however short the type usually is.
SHORT = 60.0
#: What explain says of a task with which nothing is wrong, and of one that needs a person.
FINE = frozenset({"after", "canceled", "finished", "next_pass", "not_before", "retry"})
FINE |= {"ahead_in_queue", "ahead_in_type", "claimed", "running", "sent"}
BROKEN = frozenset({"broker", "no_dispatcher", "no_worker", "worker_gone"})


def examine_task(task: TaskLog) -> list[Finding]:
    """Return what was found of ``task``, in the order in which one would look.

    Where it stands; what of the site is in its way, if it waits; of a body that runs how
    long it does, how far it is, what its process does and what it holds; what happened to
    it before. Changes nothing.
    """
    row = TaskLog.objects.select_related("worker").get(pk=task.pk)
    steps = [*_stands(row)]
    if row.status in (Status.PENDING, Status.QUEUED):
        steps += [one for one in examine() if one.level is not Level.OK]
    if row.status == Status.STARTED:
        steps += [*_time(row), *_progress(row), *examine_process(row)]
    return [*steps, *_locks(row), *_history(row)]


def _stands(row: TaskLog) -> Iterator[Finding]:
    for reason in explain(row):
        level = Level.OK if reason.code in FINE else Level.WARN
        level = Level.FAIL if reason.code in BROKEN else level
        yield Finding(level, row.status, reason.text, _ADVICE.get(reason.code, ""))


_ADVICE = {
    "failed": "Its traceback stands in admin; manage.py taskcontrol retry ID runs it again.",
    "limit": "Look at those tasks too, or raise the limit of its type in admin.",
    "paused": "taskcontrol.resume(task), or the button in admin.",
    "rate": "Wait, or raise the rate limit of its type in admin.",
    "slots": "Look at those tasks too, or start more workers.",
    "stopping": "On prefork it is killed soon. Elsewhere it must ask check_canceled(), or "
    "its worker must be restarted.",
    "worker_gone": "If nothing rescues it, no worker and no beat is there to do so: "
    "manage.py taskcontrol rescue",
}


def _time(row: TaskLog) -> Iterator[Finding]:
    ran = _seconds_of_run(row)
    usual = TaskType.objects.filter(method=row.method).values_list(
        "usual_seconds", flat=True
    )
    known = next((seconds for seconds in usual if seconds is not None), None)
    text = f"{duration(ran)} of at most {duration(row.timeout)}"
    if known is not None:
        text += f"; its type usually takes {duration(known)}"
    if ran > row.timeout:
        advice = (
            "No time limit reaches it: its pool is threads or solo, or its worker hangs."
        )
        yield Finding(Level.WARN, "Time", text, advice)
    elif known is not None and ran > max(UNUSUAL * known, SHORT):
        advice = f"If it hangs: manage.py taskcontrol cancel {row.pk}, then retry {row.pk}."
        yield Finding(Level.WARN, "Time", text, advice)
    else:
        yield Finding(Level.OK, "Time", text)


def _seconds_of_run(row: TaskLog) -> float:
    now = TaskLog.objects.filter(pk=row.pk).values_list(DatabaseNow(), flat=True).get()
    return float((now - (row.started_at or now)).total_seconds())


def _progress(row: TaskLog) -> Iterator[Finding]:
    said = said_of(row.progress)
    parts = [text for text in (said.message, said.description) if text]
    if said.count is not None:
        total = "" if said.total is None else f" of {said.total:,}"
        parts.insert(0, f"{said.count:,}{total}")
    if parts:
        yield Finding(Level.OK, "Progress", ", ".join(parts))


def _locks(row: TaskLog) -> Iterator[Finding]:
    held = Lock.objects.filter(task=row.pk, expires_at__gt=DatabaseNow()).order_by("key")
    for lock in held[:10]:
        text = (
            f"{lock.key!r} is held by attempt {lock.attempt} since {moment(lock.taken_at)}"
        )
        if row.status == Status.STARTED and lock.attempt == row.attempt:
            yield Finding(Level.OK, "Lock", text)
        else:
            until = f"; its process is gone, and it is free at {moment(lock.expires_at)}"
            yield Finding(Level.WARN, "Lock", text + until)
    refused = TaskEvent.objects.filter(
        task=row.pk, kind=TaskEvent.Kind.REFUSED, attempt=row.attempt
    )
    if (last := refused.order_by("-id").first()) is not None:
        yield Finding(Level.WARN, "Refused", f"{last.detail} ({moment(last.at)})")


def _history(row: TaskLog) -> Iterator[Finding]:
    if row.lost_count:
        yield Finding(
            Level.WARN,
            "History",
            f"its process was lost {counted(row.lost_count, 'time')}",
            "Look into the kernel's log: out of memory? Its attempts tell how much they took.",
        )
    earlier = TaskAttempt.objects.filter(task=row.pk).order_by("-attempt")[:5]
    ends = [
        f"{one.attempt} {one.status}{f' ({one.ended_reason})' if one.ended_reason else ''}"
        for one in earlier
    ]
    if ends:
        yield Finding(Level.OK, "History", f"earlier attempts: {listed(ends)}")
