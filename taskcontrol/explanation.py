"""Says why a task is not running, in sentences, what matters most first."""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db.models import OuterRef, Subquery

from . import obstacles, waits
from .conf import conf
from .dialect import DatabaseNow
from .exceptions import (
    Discard,
    MethodNotAllowed,
    MethodNotCallable,
    MethodNotFound,
    TaskNotFound,
)
from .following import is_over
from .lookup import find_task
from .models import Lock, TaskEvent, TaskLog, TaskType
from .obstacles import Reason, usual_end
from .people import name_of
from .status import TERMINAL, Status
from .targets import target_of_row
from .text import last_line
from .wording import counted, duration, moment

__all__ = ["Reason", "explain"]

#: Seconds; of a shorter wait nobody asks where it went.
WORTH_TELLING = 1.0
#: Seconds within which a worker tells a body to stop, and within which it sees it gone.
TOLD_WITHIN = 2.0

_WAITING = {Status.PENDING, Status.PAUSED, Status.QUEUED}
_LOCK = re.compile(r"LockTaken: The lock ('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\") is held")


def explain(task: TaskLog | str | int) -> list[Reason]:
    """Return why ``task`` is not running, in order; of a running or ended one what it does.

    Reads the row anew, so that a stale one tells no tales, and besides it only a few
    indexed rows, however long the line is. Never empty. Raises TaskNotFound.
    """
    row, now = _read(find_task(task).pk)
    tell = _TELLERS[Status(row.status)]
    return [*tell(row, now), *_stopping(row, now), *_waited(row, now)]


def _read(task_id: int) -> tuple[TaskLog, datetime]:
    rows = TaskLog.objects.annotate(now=DatabaseNow()).select_related("worker")
    row: Any = rows.defer("arguments", "debug_log", "result").filter(pk=task_id).first()
    if row is None:
        raise TaskNotFound(task_id)
    return row, row.now


def _pending(row: TaskLog, now: datetime) -> Iterator[Reason]:
    own = []
    if row.run_at is not None and row.run_at > now:
        own.append(
            Reason(
                "not_before", f"It is not to run before {moment(row.run_at)}.", row.run_at
            )
        )
    if row.after_id is not None:
        own.append(_after(row.after_id))
    if row.occupies:
        own.append(
            Reason(
                "earlier_body",
                f"It waits until the body of its earlier attempt is gone{_where(row)}.",
                holders=(row.pk,),
            )
        )
    yield from own
    found = [*_method(row), *obstacles.of_pending(row, now)]
    yield from found
    if not own and not found:
        yield Reason(
            "next_pass", "Nothing holds it: the next pass of the dispatcher takes it."
        )


def _method(row: TaskLog) -> Iterator[Reason]:
    try:
        target_of_row(row)
    except (Discard, MethodNotAllowed, MethodNotCallable, MethodNotFound) as error:
        yield Reason("method", f"As seen from this process it would fail: {error}")


def _after(task_id: int) -> Reason:
    usual = TaskType.objects.filter(method=OuterRef("method")).values("usual_seconds")[:1]
    found: Any = TaskLog.objects.filter(pk=task_id).annotate(usual=Subquery(usual))
    task = found.first()
    if task is None or is_over(task):
        return Reason(
            "after",
            f"It comes after task {task_id}, which is over: the next pass frees it.",
        )
    status = task.status
    if task.retry_at is not None:
        status = f"{status} and will be retried"
    elif task.occupies and status in TERMINAL:
        status = f"{status} and still stopping"
    return Reason(
        "after",
        f"It comes after task {task_id}, which is {status}.",
        holders=(task_id,),
        until=task.retry_at,
        expected=usual_end(task),
    )


def _paused(row: TaskLog, now: datetime) -> Iterator[Reason]:
    pauses = TaskEvent.objects.filter(task=row.pk, kind=TaskEvent.Kind.PAUSED)
    last = pauses.order_by("-id").first()
    if last is None:
        since = "It was enqueued as paused"
    else:
        why = f" ({last.detail})" if last.detail else ""
        since = f"It is paused since {moment(last.at)} by {name_of(last.actor_id)}{why}"
    yield Reason("paused", f"{since} and waits until it is resumed.")
    yield from obstacles.of_batch(row)


def _queued(row: TaskLog, now: datetime) -> Iterator[Reason]:
    if row.worker_id is not None:
        yield from _claimed(row, now)
        return
    sent = f"It was sent to the broker at {_at(row.queued_at)}"
    if row.sent_count:
        sent += f" and again {counted(row.sent_count, 'time')}, last at {_at(row.sent_at)},"
    yield Reason("sent", f"{sent} and no worker has claimed it yet.")
    yield from _method(row)
    yield from obstacles.of_queued(row, now)


def _claimed(row: TaskLog, now: datetime) -> Iterator[Reason]:
    """Of what a worker promoted for its own children: no message of it was ever sent."""
    yield Reason(
        "claimed",
        f"It was claimed by {_worker_of(row)} at {_at(row.queued_at)}: it waits for one of the "
        "children of that worker, or has begun there and that is not written yet.",
    )
    yield from _method(row)
    yield from _ill_worker(row, now)


def _started(row: TaskLog, now: datetime) -> Iterator[Reason]:
    began = row.started_at or now
    so_long = duration((now - began).total_seconds())
    yield Reason("running", f"It runs since {moment(began)} ({so_long}){_where(row)}.")
    yield from _ill_worker(row, now)


def _ill_worker(row: TaskLog, now: datetime) -> Iterator[Reason]:
    worker = row.worker
    if row.worker_id is None:
        return
    if worker is None or worker.lost_at or worker.left_at:
        yield Reason("worker_gone", "Its worker is gone; the next sweep rescues the task.")
        return
    silent = (now - worker.last_seen_at).total_seconds()
    if silent > 2 * conf.HEARTBEAT_INTERVAL:
        yield Reason(
            "worker_silent",
            f"Its worker has given no sign of life for {duration(silent)}; after "
            f"{duration(conf.WORKER_LOST_AFTER)} it counts as lost and the task is rescued.",
        )


def _finished(row: TaskLog, now: datetime) -> Iterator[Reason]:
    taken = f" after {duration(row.time_taken.total_seconds())}" if row.time_taken else ""
    yield Reason("finished", f"It finished at {_at(row.ended_at)}{taken}.")


def _canceled(row: TaskLog, now: datetime) -> Iterator[Reason]:
    why = f": {row.ended_reason}" if row.ended_reason else ""
    who = name_of(row.canceled_by_id)
    yield Reason("canceled", f"It was canceled at {_at(row.ended_at)} by {who}{why}.")


def _failed(row: TaskLog, now: datetime) -> Iterator[Reason]:
    why = last_line(row.error_message) or row.ended_reason or "no error was stored"
    failed = f"It failed at {_at(row.ended_at)}: {why.rstrip('.')}."
    if row.retry_at is None:
        yield Reason("failed", failed)
        yield Reason("no_retry", _why_no_retry(row))
        return
    which = f"retry {row.retry_count + 1} of {row.max_retries}"
    when = "is due" if row.retry_at > now else "has been due since"
    yield Reason(
        "retry",
        f"{failed} {which.capitalize()} {when} {moment(row.retry_at)}.",
        row.retry_at,
    )
    yield from _lock(row, now)


def _lock(row: TaskLog, now: datetime) -> Iterator[Reason]:
    """Say whether the lock that stopped the last attempt is still held."""
    found = _LOCK.search(last_line(row.error_message))
    key = literal_eval(found[1]) if found else None
    lock = Lock.objects.filter(key=key, expires_at__gt=now).first() if key else None
    if lock is not None:
        who = f"task {lock.task_id}, {lock.holder}" if lock.task_id else lock.holder
        yield Reason(
            "lock",
            f"The lock {key!r} is still held by {who}, since {moment(lock.taken_at)}.",
            holders=(lock.task_id,) if lock.task_id else (),
            name=lock.key,
        )


def _why_no_retry(row: TaskLog) -> str:
    if not row.max_retries:
        return "It has no automatic retries."
    if row.retry_count >= row.max_retries:
        return f"{counted(row.retry_count, 'retry', 'retries')} of {row.max_retries} were made."
    return "It is not retried by itself: the failure was declared final."


def _stopping(row: TaskLog, now: datetime) -> Iterator[Reason]:
    """Say that the body of a task that has ended may still be going, and how long at most."""
    if row.occupies and row.status in TERMINAL:
        since = row.cancel_requested_at or row.ended_at
        gone_by = _forced_at(row, since)
        force = ""
        if gone_by is not None and gone_by > now:
            left = duration((gone_by - now).total_seconds())
            force = f" It is stopped by force within {left}."
        elif gone_by is not None:
            force = " It is being stopped by force."
        elif row.worker is not None and row.worker.pool != "prefork":
            force = f" It stops where it asks: a {row.worker.pool} pool cannot force it."
        yield Reason(
            "stopping",
            f"Its body was told to stop at {_at(since)} and is not gone yet{_where(row)}; "
            f"until then it keeps its place.{force}",
            until=gone_by,
            holders=(row.pk,),
        )


def _forced_at(row: TaskLog, since: datetime | None) -> datetime | None:
    """Return when its worker ends it at the latest; None where nobody can."""
    worker = row.worker
    if since is None or worker is None or worker.pool != "prefork":
        return None
    if worker.lost_at or worker.left_at:
        return None
    return since + timedelta(seconds=conf.CANCEL_GRACE + TOLD_WITHIN)


def _waited(row: TaskLog, now: datetime) -> Iterator[Reason]:
    """Say of a task that has begun or ended where its wait went."""
    if row.status in _WAITING:
        return
    parts = waits.where_it_went(row, now)
    if sum(part.seconds for part in parts) >= WORTH_TELLING:
        yield Reason("waited", waits.as_sentence(parts))


def _where(row: TaskLog) -> str:
    if row.worker_id is None:
        return ""
    return f", on {_worker_of(row)}{f' in process {row.pid}' if row.pid else ''}"


def _worker_of(row: TaskLog) -> str:
    return row.worker.hostname if row.worker is not None else f"worker {row.worker_id}"


def _at(value: datetime | None) -> str:
    return moment(value) if value is not None else "an unknown time"


_TELLERS = {
    Status.PENDING: _pending,
    Status.PAUSED: _paused,
    Status.QUEUED: _queued,
    Status.STARTED: _started,
    Status.FINISHED: _finished,
    Status.FAILED: _failed,
    Status.CANCELED: _canceled,
}
