"""Captures what a task prints and logs, as its debug log."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TextIO

from .conf import conf
from .text import clean, redact, shorten

_current: ContextVar[Capture | None] = ContextVar("taskcontrol_output", default=None)


class Capture:
    """Text of one task; of too much, the head and the tail are kept."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0

    def write(self, text: str) -> None:
        """Add ``text``."""
        self._parts.append(text)
        self._size += len(text)
        limit: int = conf.DEBUG_LOG_MAX_CHARS
        if self._size > 4 * limit:
            self._parts = [shorten("".join(self._parts), limit)]
            self._size = len(self._parts[0])

    def text(self) -> str:
        """Return what was captured, storable and without secrets."""
        if not self._parts:
            return ""
        limit: int = conf.DEBUG_LOG_MAX_CHARS
        return clean(redact(shorten("".join(self._parts), 2 * limit)), limit)


@contextmanager
def captured() -> Iterator[Capture]:
    """Capture what the code inside the block prints and logs."""
    capture = Capture()
    _listen(capture)
    token = _current.set(capture)
    try:
        yield capture
    finally:
        _current.reset(token)
        _stop_listening(capture)


class _Tee(io.TextIOBase):
    """Writes through, and to the capture of the task that runs in this context."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        capture = _current.get()
        if capture is not None:
            capture.write(text)
        # A stream that somebody closed, or that nobody reads any more, fails no task.
        with suppress(OSError, ValueError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        """A shell that ran a task at once stays a terminal; a task's own output is none."""
        return _current.get() is None and self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno() if _current.get() is None else super().fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Handler(logging.Handler):
    """Adds log records to the capture of the task that runs in this context."""

    def emit(self, record: logging.LogRecord) -> None:
        capture = _current.get()
        # Celery logs what is printed, which the tee has seen.
        if capture is None or record.name == "celery.redirected":
            return
        try:
            capture.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - a log line must not fail the task
            self.handleError(record)


_handler = _Handler()
_handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))


#: The captures that are open, in any thread.
_open: set[Capture] = set()
_lock = threading.Lock()


def _listen(capture: Capture) -> None:
    with _lock:
        _open.add(capture)
        logging.getLogger().addHandler(_handler)
        _wrap_streams()


def _stop_listening(capture: Capture) -> None:
    """A process without handlers of its own prints its warnings again: no handler stays."""
    with _lock:
        _open.discard(capture)
        if not _open:
            logging.getLogger().removeHandler(_handler)


def _wrap_streams() -> None:
    for name in ("stdout", "stderr"):
        # A body may have put None there, which is legal and says nothing.
        stream = getattr(sys, name) or getattr(sys, f"__{name}__")
        if stream is not None and not isinstance(stream, _Tee):
            setattr(sys, name, _Tee(stream))
