"""Many items in one task: chunk by chunk, each committed once, and counted to the end."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import ref

from celery.exceptions import SoftTimeLimitExceeded, TaskPredicate
from django.db import InterfaceError, OperationalError, connections, transaction

from . import conflicts
from .conf import conf
from .context import current_task
from .dialect import DatabaseNow
from .exceptions import Discard, InvalidCall, LockLost, Retry
from .models import Checkpoint
from .sources import Source, source_of
from .text import clipped, safe_str, storable

if TYPE_CHECKING:
    from .currenttask import CurrentTask

logger = logging.getLogger("taskcontrol")

T = TypeVar("T")

MAX_NAME = 100
#: Items that failed of which the error is kept.
MOST_ERRORS = 20
#: What concerns the whole run and not the item at which it came up.
NOT_THE_ITEMS = (
    SoftTimeLimitExceeded,
    TaskPredicate,
    Retry,
    Discard,
    LockLost,
    OperationalError,
    InterfaceError,
)


def iter_chunks(items: Iterable[T], size: int = 500, *, name: str = "") -> Chunks[T]:
    """Go through ``items`` in chunks of ``size``, each in a transaction of its own.

    In a task the transaction of a chunk also holds the checkpoint, so a later attempt, after
    a crash or a retry, goes on behind the last chunk that was committed. Between two chunks
    the task says how far it is and stops if it was canceled. ``name`` tells the loops of one
    body apart. A QuerySet is read by key, whatever its order; any other iterable must give
    the same items in the same order in each attempt. Raises InvalidCall for items without
    an order (set), for texts, dicts and cut querysets, and for ``atomic=True``.
    """
    number: object = size
    text: object = name
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise InvalidCall(f"size must be a whole number of 1 or more, not {size!r}.")
    if not isinstance(text, str) or len(text) > MAX_NAME or not storable(text):
        raise InvalidCall(
            f"The name of a loop must be a text of at most {MAX_NAME} characters, not "
            f"{name!r:.100}."
        )
    return Chunks(source_of(items), size, name)


class Chunk(list[T]):
    """Some of the items, in a transaction that ends with the turn of the loop."""

    def __init__(self, items: Iterable[T]) -> None:
        super().__init__(items)
        self.failed: list[dict[str, str]] = []

    @contextmanager
    def item(self, item: T) -> Iterator[None]:
        """Undo and count what goes wrong in the block, so that one item stops no other.

        The block is a savepoint. What concerns the whole run goes through: cancel, time
        limit, Retry, Discard, a lost lock, a database that does not answer.
        """
        try:
            with transaction.atomic(using=conf.DATABASE):
                yield
        except NOT_THE_ITEMS:
            raise
        except Exception as error:
            if conflicts.passes(error):
                raise
            self._note(item, error)

    def _note(self, item: T, error: Exception) -> None:
        told = {
            "item": clipped(safe_str(item), 200),
            "error": clipped(f"{type(error).__name__}: {safe_str(error)}", 300),
        }
        self.failed.append(told)
        few = len(self.failed) <= MOST_ERRORS
        logger.warning(
            "Item %s failed: %s",
            told["item"],
            told["error"],
            exc_info=error if few else None,
        )


class Chunks(Generic[T]):
    """One loop over chunks; ``summary`` tells how it went."""

    def __init__(self, source: Source[T], size: int, name: str) -> None:
        self.size, self.name = size, name
        self._source = source
        self._stopped = False
        self._state = Checkpoint(name=name)

    def __iter__(self) -> Iterator[Chunk[T]]:
        """Yield each chunk inside its transaction.

        Leaving the loop by an exception or ``break`` undoes the chunk it stands in.
        """
        task, loop = current_task(), self._loop()
        if task is not None:
            _check_loop(task, self.name)
            task.loops[self.name] = ref(loop)
        return loop

    def _loop(self) -> Generator[Chunk[T]]:
        task, state = current_task(), self._begin()
        for items, place in self._source.pages(self.size, state.done, state.place):
            with _transaction(task):
                chunk = Chunk(items)
                yield chunk
                self._take(len(items), chunk.failed, place)
                if task is not None:
                    state.saved_at = DatabaseNow()
                    state.save(using=conf.DATABASE)
            self._tell(task)
            if self._stopped:
                return
        state.total = state.done
        self._tell(task)

    def stop(self) -> None:
        """End the loop after this chunk, which is committed."""
        self._stopped = True

    @property
    def summary(self) -> dict[str, int]:
        """How many items went well and failed, in all attempts, and how many there are."""
        state = self._state
        total = state.done if state.total is None else state.total
        return {"ok": state.done - state.failed, "failed": state.failed, "total": total}

    @property
    def errors(self) -> list[dict[str, str]]:
        """The first items that failed, each ``{"item": …, "error": …}``."""
        return list(self._state.errors)

    def _begin(self) -> Checkpoint:
        """Find where an earlier attempt has stopped, and say it."""
        task = current_task()
        if task is not None:
            rows = Checkpoint.objects.filter(task=task.id, name=self.name)
            self._state = rows.first() or Checkpoint(task_id=task.id, name=self.name)
        state = self._state
        state.total = self._source.total(state.done, state.place, state.total)
        self._tell(task)
        return state

    def _take(self, number: int, failed: list[dict[str, str]], place: Any) -> None:
        """Count a chunk that is through."""
        state = self._state
        state.done += number
        state.failed += len(failed)
        state.errors = [*state.errors, *failed][:MOST_ERRORS]
        state.place = place

    def _tell(self, task: CurrentTask | None) -> None:
        if task is None:
            return
        state = self._state
        progress: dict[str, Any] = {"count": state.done}
        if state.total is not None:
            progress["total"] = max(state.total, state.done)
        if state.failed:
            progress["description"] = f"{state.failed:,} failed"
        task.report({"progress": progress})


def _check_loop(task: CurrentTask, name: str) -> None:
    """Refuse a loop that could not keep its promise in this task."""
    if task.row.options.get("atomic"):
        raise InvalidCall(
            f"iter_chunks commits chunk by chunk, and task {task.id} runs with atomic=True, "
            "which commits once at its end. Leave out one of the two."
        )
    if name in task.loops:
        raise InvalidCall(
            f"Task {task.id} has gone through a loop of this name already ({name!r}), whose "
            'place this one would take for its own: iter_chunks(…, name="…") tells them '
            "apart."
        )


@contextmanager
def _transaction(task: CurrentTask | None) -> Iterator[None]:
    """A transaction that a task commits only while it is its own; a savepoint within one."""
    if task is not None and not connections[conf.DATABASE].in_atomic_block:
        with task.held():
            yield
        return
    if task is not None:
        task.check_canceled()
    with transaction.atomic(using=conf.DATABASE):
        yield
