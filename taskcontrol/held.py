"""Which child of this worker holds which attempt, and how to stop exactly that one."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import psutil
from billiard.exceptions import TimeLimitExceeded
from celery.worker.request import Request

from . import crashpoints

logger = logging.getLogger("taskcontrol")


@dataclass(eq=False)
class Held:
    """One attempt that this worker gave to a process of its pool."""

    #: The task and the number of the attempt.
    key: tuple[int, int]
    pid: int
    #: The process, told from a later one with the same pid.
    process: psutil.Process
    #: What the pool keeps of it; ready when the child has answered.
    job: Any
    since: float = field(default_factory=time.monotonic)

    def runs_for(self) -> float:
        """Return the seconds since the child took it."""
        return time.monotonic() - self.since

    def body_is_gone(self) -> bool:
        """Return whether the process is dead or has answered for this attempt."""
        return not _is_alive(self.process) or self.is_answered()

    def is_answered(self) -> bool:
        """Return whether the pool has read the child's answer.

        At the hard time limit the pool answers for the child, before it is dead.
        """
        if not self.job.ready():
            return False
        answer = self.job._value  # noqa: SLF001 - asked for, it would be raised
        return self.job.successful() or answer.type is not TimeLimitExceeded


#: A child is at one attempt at a time. One attempt may be with several children: a copy of its
#: message is refused only at its claim, while the child that won runs the body.
_held: set[Held] = set()
#: What runs in this process itself, by thread: in a pool of threads or of one.
_here: dict[int, tuple[int, int]] = {}


#: What gives attempts to this worker's children without the broker, if anything does.
by_hand: ByHand | None = None

#: Attempts that a worker's row names; no pool is so large, but what waits for one may be more.
MOST_NAMED = 1000


def attempts() -> list[tuple[int, int]]:
    """Return the attempts whose bodies this worker has in hand: what it vouches for.

    Where they are too many, what runs is named before what waits for a child: nobody may take
    a long body for lost.
    """
    children = [one.key for one in list(_held) if not one.body_is_gone()]
    bodies = [*children, *list(_here.values())]
    given = by_hand.keys() if by_hand is not None else []
    return sorted(list(dict.fromkeys([*bodies, *given]))[:MOST_NAMED])


def begin_here(task_id: int, attempt: int) -> None:
    """Note that this thread begins with an attempt: before it claims, so that none is missed."""
    _here[threading.get_ident()] = (task_id, attempt)


def end_here() -> None:
    """Note that this thread has nothing more to do with what it began."""
    _here.pop(threading.get_ident(), None)


def has_body(task_id: int, attempt: int) -> bool:
    """Return whether a child or a thread of this worker is still at an attempt."""
    if by_hand is not None and by_hand.has((task_id, attempt)):
        return True
    holder = find(task_id, attempt)
    child_is = holder is not None and not holder.body_is_gone()
    return child_is or (task_id, attempt) in list(_here.values())


def accepted(held: Held) -> None:
    """Note that a child began with an attempt: what it held before is over."""
    for other in list(_held):
        if other.pid == held.pid:
            _held.discard(other)
    _held.add(held)


def find(task_id: int, attempt: int) -> Any:
    """Return who holds an attempt: the last that is still at it, or else any that was."""
    given = by_hand.find((task_id, attempt)) if by_hand is not None else None
    return given or max(
        _holders(task_id, attempt),
        key=lambda one: (not one.body_is_gone(), one.since),
        default=None,
    )


def drop(task_id: int, attempt: int) -> bool:
    """Forget an attempt that this worker has claimed and no child was given."""
    return by_hand is not None and by_hand.drop((task_id, attempt))


def sweep(*, keep: Collection[tuple[int, int]]) -> None:
    """Forget what has ended, but for those that somebody still asks about."""
    for held in list(_held):
        if held.key not in keep and held.body_is_gone():
            _held.discard(held)


def kill(task_id: int, attempt: int, number: signal.Signals) -> bool:
    """Send a signal to each process that is still at an attempt, and to no other.

    From any thread, since the event loop stands still while the broker is away. A child is
    given a new task only after its answer to the last one was read, which takes the mutex:
    while it is held here, "not answered" means "still at it".
    """
    hit = [_kill(one, number) for one in _holders(task_id, attempt)]
    given = by_hand is not None and by_hand.kill((task_id, attempt), number)
    return any(hit) or given


def _kill(held: Held, number: signal.Signals) -> bool:
    mutex = held.job._mutex  # noqa: SLF001 - the only one that keeps the answer out
    with mutex, suppress(psutil.NoSuchProcess, ProcessLookupError):
        if held.body_is_gone():
            return False
        if number == signal.SIGKILL:
            kill_tree(held.process)
        else:
            os.kill(held.pid, number)
    return True


def kill_tree(process: psutil.Process) -> None:
    """End a process and all that it started."""
    for one in [*process.children(recursive=True), process]:
        with suppress(psutil.NoSuchProcess):
            one.kill()


class Sturdy(Request):
    """A Celery request that harms no worker when its child runs out of memory."""

    def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> Any:
        """Take a MemoryError for what it is: the end of this message, of nothing else.

        Celery raises it again in the main process, which it ends (celery issue 10462). What
        the child ran is found by the keeper: it has answered, and its row is Started.
        """
        try:
            return super().on_failure(exc_info, *args, **options)
        except MemoryError:
            logger.error("%s[%s] found no memory in its child.", self.name, self.id)  # noqa: TRY400 - it says nothing of where
            return None


class HeldRequest(Sturdy):
    """A Celery request that notes which child took it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        crashpoints.reached("worker.received")

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """The child ``pid`` begins; nobody can be stopped by a signal on other pools."""
        try:
            crashpoints.reached("worker.handed")
            if pid != os.getpid():
                self._note(pid)
        finally:
            # Or else the worker would wait for ever for the slot of a forged message.
            super().on_accepted(pid, time_accepted)

    def _note(self, pid: int) -> None:
        task_id, attempt = self.args
        key = (int(task_id), int(attempt))
        with suppress(psutil.NoSuchProcess):
            accepted(Held(key, pid, psutil.Process(pid), self._apply_result()))


def _holders(task_id: int, attempt: int) -> list[Held]:
    return [one for one in list(_held) if one.key == (task_id, attempt)]


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class ByHand(Protocol):
    """What gives attempts to children without the broker: see ``hands.py``."""

    def keys(self) -> list[tuple[int, int]]:
        """Return the attempts that it vouches for, first those whose bodies run."""

    def has(self, key: tuple[int, int]) -> bool:
        """Return whether it still has to do with an attempt."""

    def drop(self, key: tuple[int, int]) -> bool:
        """Forget an attempt that no child has."""

    def find(self, key: tuple[int, int]) -> Any:
        """Return the child that was given an attempt."""

    def kill(self, key: tuple[int, int], number: signal.Signals) -> bool:
        """Send a signal to the child in which an attempt runs."""
