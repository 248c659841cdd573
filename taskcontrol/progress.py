"""How far a running task is: said often, written seldom, the last word always."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from django.db import InterfaceError, OperationalError
from django.db.models import F

from .announcing import announce
from .arguments import size_of
from .conf import conf
from .context import current_task
from .exceptions import InvalidCall
from .models import TaskLog
from .pokes import poke, poke_after_commit
from .side import close_side_connection, side_database
from .status import Status
from .text import clean, storable

logger = logging.getLogger("taskcontrol")

#: Seconds between two writes of the progress of one task.
WRITE_EVERY = 0.25
#: Seconds after which the last message is written though no other follows it.
LANDS_AFTER = 0.5
MAX_BYTES = 4096
#: The largest count and total: a browser tells each whole number up to it from the next.
MOST = 10**15
#: The most seconds that are told as left.
LONGEST = 10 * 365 * 86400.0
_FIELDS = ("count", "total", "description")


class Progress(TypedDict, total=False):
    """How far a task is: numbers from 0, and a text."""

    count: float | None
    total: float | None
    description: str | None


class Message(TypedDict):
    """A message with numbers."""

    progress: Progress


@dataclass(frozen=True)
class Said:
    """What of a stored progress can be shown; None where nothing of it can."""

    count: float | None
    total: float | None
    description: str | None
    message: str | None

    @property
    def text(self) -> str:
        """What it says in words."""
        return self.description or self.message or ""


def notify_task_status(message: str | Message) -> None:
    """Say how far the running task is; does nothing outside of one.

    ``message`` is a text, or ``{"progress": {"count": 3, "total": 10, "description": "…"}}``
    with any of the three fields. One that is neither fails no body: a warning in its log
    says what is wrong, and the message is dropped.
    """
    task = current_task()
    if task is not None:
        task.report(message)


def notify_status(task: TaskLog, *, message: Any = None, error: str | None = None) -> None:
    """Announce a task's status again, with a message and perhaps an error text.

    The message is stored too; it is what ``notify_task_status`` takes. Raises InvalidCall.
    """
    if message is not None:
        message = as_progress(message)
        TaskLog.objects.filter(pk=task.pk).update(progress=message, rev=F("rev") + 1)
        message = message.get("message", {"progress": message})
    row = TaskLog.objects.filter(pk=task.pk).first()
    if row is not None:
        announce(
            [row],
            row.status,
            row.status,
            message=message,
            error=clean(error or "", conf.ERROR_MAX_CHARS),
        )
        poke_after_commit([row])


def as_progress(message: Any) -> dict[str, Any]:
    """Return ``message`` in the form in which it is stored."""
    if isinstance(message, dict):
        given = message.get("progress", message)
        known = isinstance(given, dict) and given.keys() <= {*_FIELDS, "message"}
        if known and _counts(given) and storable(given) and _is_small(given):
            return dict(given)
    elif message is not None:
        return {"message": clean(message, 1000)}
    raise InvalidCall(
        "A progress message is a text or {'progress': {'count': …, 'total': …, "
        f"'description': …}}}} of at most {MAX_BYTES} bytes, in which count and total are "
        f"numbers from 0 to {MOST:,}, not {_shown(message)}."
    )


def _counts(given: Mapping[str, Any]) -> bool:
    numbers = [given[name] for name in ("count", "total") if given.get(name) is not None]
    return all(map(_is_count, numbers))


def _is_count(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= MOST


def _is_small(given: Mapping[str, Any]) -> bool:
    try:
        return size_of(given) <= MAX_BYTES
    except ValueError:  # a whole number of more digits than Python writes
        return False


def _shown(message: Any) -> str:
    try:
        return f"{message!r:.200}"
    except Exception:  # noqa: BLE001 - no body fails by what it says
        return f"a {type(message).__name__} that cannot be written"


def said_of(stored: Any) -> Said:
    """Return what can be shown of the progress of a row.

    A row may have been written by hand or by another version: whatever stands in it must
    not take down the page that lists it with others.
    """
    given = stored if isinstance(stored, dict) else {}
    count, total = (
        given[name] if _is_count(given.get(name)) else None for name in ("count", "total")
    )
    texts = (given.get(name) for name in ("description", "message"))
    description, message = (None if one is None else clean(one, MAX_BYTES) for one in texts)
    return Said(count, total, description, message)


def seconds_left(said: Said, begun_at: datetime | None, now: datetime) -> float | None:
    """Return the seconds that are left if the rest goes as the part that is done."""
    count, total = said.count, said.total
    if begun_at is None or count is None or total is None or not 0 < count < total:
        return None
    left = (now - begun_at).total_seconds() / count * (total - count)
    return max(left, 0.0) if left <= LONGEST else None


def write(task_id: int, attempt: int, progress: dict[str, Any]) -> None:
    """Store the progress of a running attempt, on the side connection."""
    rows = TaskLog.objects.using(side_database()).filter(
        pk=task_id, attempt=attempt, status=Status.STARTED
    )
    rows.update(progress=progress, rev=F("rev") + 1)
    poke([task_id])


class Reporter:
    """Writes the progress of one attempt at most every ``WRITE_EVERY`` seconds.

    A message that came too early for that is written by a thread, unless another one or
    the end of the body is faster. ``close`` ends the waiting; the end writes ``latest``.
    """

    def __init__(self, task_id: int, attempt: int) -> None:
        self.task_id, self.attempt = task_id, attempt
        self.latest: dict[str, Any] | None = None
        self._written_at = float("-inf")
        self._unwritten = False
        self._writing = threading.Lock()
        self._timer: threading.Timer | None = None

    def report(self, message: Any) -> None:
        """Take the message; write it now, or soon if another was written just now."""
        self.latest = {**(self.latest or {}), **as_progress(message)}
        self._unwritten = True
        if time.monotonic() - self._written_at >= WRITE_EVERY:
            self._write()
        if self._unwritten:
            self._write_soon()

    def close(self) -> None:
        """Write nothing more."""
        self._unwritten = False
        if self._timer is not None:
            self._timer.cancel()

    def _write(self) -> None:
        # Never waits: who writes may be waiting for the transaction of who reports.
        if not self._writing.acquire(blocking=False):
            return
        try:
            self._unwritten = False
            write(self.task_id, self.attempt, self.latest or {})
            self._written_at = time.monotonic()
        except (OperationalError, InterfaceError) as error:
            if side_database() == conf.DATABASE:
                raise  # it broke the body's own transaction
            self._unwritten = True
            logger.warning("Progress of task %s was not written: %s", self.task_id, error)
            close_side_connection()
        finally:
            self._writing.release()

    def _write_soon(self) -> None:
        """Where the body's own connection has to serve, only the body can write."""
        if self._timer is None and side_database() != conf.DATABASE:
            self._timer = threading.Timer(LANDS_AFTER, self._land)
            self._timer.daemon = True
            self._timer.start()

    def _land(self) -> None:
        self._timer = None
        try:
            if self._unwritten:
                self._write()
        finally:
            close_side_connection()
