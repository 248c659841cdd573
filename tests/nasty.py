"""The nasty corpus: 45 ways in which a body, its arguments or its end may harm a worker."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db.models import F

import taskcontrol
from taskcontrol import lifecycle
from taskcontrol.conf import conf
from taskcontrol.status import Status
from tests import tasks
from tests.models import Counter
from tests.recording import STARTED, Record, record


@dataclass(frozen=True, eq=False)
class Case:
    """One of the 45: what is run, and how its task has to end."""

    name: str
    method: Callable[..., Any]
    #: What the error says; of a case that is refused at the call, what the refusal says.
    says: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    status: Status | None = Status.FAILED
    #: How often its process is lost with it.
    lost: int = 0
    timeout: float | None = None

    @property
    def refused(self) -> bool:
        """Whether the call says no, so that there is no row."""
        return self.status is None


# Errors that are hard to tell ------------------------------------------------------------


class Endless(Exception):
    """Whoever asks it for its text never gets an answer."""

    def __str__(self) -> str:
        for _ in iter(int, 1):
            time.sleep(0.01)
        return "never"


class Leaving(Exception):
    """Ends the process of whoever asks it for its text."""

    def __str__(self) -> str:
        raise SystemExit(7)


def fail_endlessly() -> None:
    """Raise an error whose text never comes to its end."""
    raise Endless


def fail_and_leave() -> None:
    """Raise an error whose text leaves the process."""
    raise Leaving


def fail_in_a_long_chain(depth: int) -> None:
    """Raise an error with so many causes behind it."""
    error = ValueError("the first")
    for level in range(1, depth + 1):
        following = ValueError(f"level {level}")
        following.__cause__ = error
        error = following
    raise error


def fill_memory(megabytes: int = 64) -> None:
    """Take memory until there is no more, and fail while all of it is held."""
    _allow(megabytes)
    _hold_all([])


_leaked: list[bytearray] = []


def leak_memory(megabytes: int = 64) -> None:
    """Take memory until there is no more, keep it for ever, and be content with that."""
    _allow(megabytes)
    with suppress(MemoryError):
        _hold_all(_leaked)


def leave_no_memory() -> None:
    """Return, and let this process take no more than it has."""
    _allow(0)


def run_out_of_memory_afterwards() -> None:
    """Return, and let the writing of the end find no memory, once."""
    write = lifecycle.finish

    def fail(*_args: Any, **_values: Any) -> bool:
        lifecycle.finish = write
        raise MemoryError("no more")

    lifecycle.finish = fail


def _allow(megabytes: int) -> None:
    """Let this process take so much more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + megabytes * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def _hold_all(held: list[bytearray]) -> None:
    size = 1 << 20
    while size > 16:
        try:
            held.append(bytearray(b"x") * size)
        except MemoryError:
            size //= 2
    held.extend(bytearray(16) for _ in iter(int, 1))


def write_and_cancel(counter: int, other: int) -> None:
    """Raise a counter, wait until somebody has a task, and cancel that task."""
    Counter.objects.filter(pk=counter).update(value=F("value") + 1)
    record("has the counter")
    lines = Record(Path(os.environ["TASKCONTROL_TEST_RECORD"]))
    while not lines.lines("has the task"):
        time.sleep(0.01)
    taskcontrol.cancel(other)


# Deaths ----------------------------------------------------------------------------------


def freeze_itself() -> None:
    """Stop its process, which nobody lets go on."""
    record(STARTED)
    os.kill(os.getpid(), signal.SIGSTOP)


def loop_for_ever() -> None:
    """Count, and catch every Exception on the way."""
    record(STARTED)
    number = 0
    while True:
        try:
            number += 1
        except Exception:  # noqa: BLE001 - the point
            number = 0


MEMORY = Path("/sys/fs/cgroup/memory")


def die_of_memory(megabytes: int = 64) -> None:
    """Take memory in a cgroup that is soon full, until the kernel ends the process.

    Where no cgroup can be made, the body does what the kernel would do: SIGKILL.
    """
    record(STARTED)
    # Another body may have left a limit in this process, which would refuse before the kernel.
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    remove_cgroups()
    group = MEMORY / f"taskcontrol-nasty-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(megabytes << 20))
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        os.kill(os.getpid(), signal.SIGKILL)
    _hold_all([])


def remove_cgroups() -> None:
    """Remove those whose processes are dead."""
    for group in MEMORY.glob("taskcontrol-nasty-*"):
        with suppress(OSError):
            group.rmdir()


# Values ----------------------------------------------------------------------------------


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def give_back_nested(depth: int) -> list[Any]:
    """Return lists in lists."""
    return _nested(depth)


class Sullen:
    """Has no text, and is nothing that JSON knows."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


def give_back_sullen() -> Sullen:
    """Return what can neither be stored nor shown."""
    return Sullen()


def give_back_generator() -> Any:
    """Return a generator that never comes to its end."""
    return iter(int, 1)


def give_back_a_loop() -> list[Any]:
    """Return a list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


def give_back_surrogate() -> dict[str, str]:
    """Return half a character, also as a key."""
    return {"\ud800": "\udfff"}


def _given(name: str, value: Any, says: str = "", **more: Any) -> Case:
    more.setdefault("status", None if says else Status.FINISHED)
    return Case(name, tasks.type_of, says, {"value": value}, **more)


def _returned(name: str, method: Callable[..., Any], **arguments: Any) -> Case:
    return Case(name, method, arguments=arguments, status=Status.FINISHED)


def _lost(name: str, method: Callable[..., Any], **arguments: Any) -> Case:
    return Case(name, method, "lost", arguments, lost=1 + conf.LOST_LIMIT)


RAISED = [
    Case("a NUL byte", tasks.fail_with_nul, "ValueError: before\ufffdafter"),
    Case("a surrogate", tasks.fail_with_surrogate, "ValueError: before\ufffdafter"),
    Case("50 MB", tasks.fail_with_megabytes, "tail", {"megabytes": 50}),
    Case("no pickle", tasks.fail_unpicklably, "Unpicklable: cannot be pickled"),
    Case("no text", tasks.fail_without_text, "Mute"),
    Case("no notes", tasks.fail_when_shown, "ValueError"),
    Case("a lie for a text", tasks.raise_a_class_that_lies, "Liar"),
    # Its text is given up on, or its process is ended first: both within its time.
    Case("an endless text", fail_endlessly, timeout=3),
    Case("a text that leaves", fail_and_leave, "Leaving"),
    Case("a group", tasks.fail_in_group, "KeyError: 'two'"),
    Case("a chain", fail_in_a_long_chain, "ValueError: level 1000", {"depth": 1000}),
    Case("GeneratorExit", tasks.exit_generator, "GeneratorExit"),
    Case("CancelledError", tasks.cancel_itself_in_asyncio, "CancelledError"),
    Case("SystemExit", tasks.leave, "SystemExit: 3", {"status": 3}),
    Case("KeyboardInterrupt", tasks.interrupt, "KeyboardInterrupt"),
    Case("MemoryError", fill_memory, "MemoryError"),
    Case("RecursionError", tasks.recurse, "RecursionError"),
    Case("StopIteration", tasks.stop_iterating, "StopIteration"),
    Case("a BaseException", tasks.fail_with_base_exception, "Rude: out of the way"),
]

VALUES = [
    _given("NUL given", "a\0b"),
    _given("a surrogate given", "\ud800"),
    _given("NaN given", float("nan")),
    _given("a number of 400 digits given", 10**400),
    _given("NUL in a key given", {"a\0": 1}, "is not plain text"),
    _given("a key that is no text given", {1: 2}, "is not plain text"),
    _given("a generator given", iter(()), "cannot be stored"),
    _given("depth given", _nested(100_000), "cannot be stored"),
    _given("1 MB given", "x" * (1 << 20), "over the limit"),
    _returned("NUL returned", tasks.give_back_nul),
    _returned("a surrogate returned", give_back_surrogate),
    _returned("Infinity returned", tasks.give_back, value=float("inf")),
    _returned("depth returned", give_back_nested, depth=100_000),
    _returned("a loop returned", give_back_a_loop),
    _returned("a generator returned", give_back_generator),
    _returned("an object without a text returned", give_back_sullen),
]

DEATHS = [
    _lost("SIGKILL", tasks.kill_itself, number=int(signal.SIGKILL)),
    _lost("SIGSEGV", tasks.crash),
    _lost("os._exit(0)", tasks.leave_at_once, status=0),
    _lost("os._exit(1)", tasks.leave_at_once, status=1),
    _lost("os._exit(3)", tasks.leave_at_once, status=3),
    _lost("abort", tasks.kill_itself, number=int(signal.SIGABRT)),
    _lost("out of memory", die_of_memory),
    Case("SIGSTOP of itself", freeze_itself, "ended by force", timeout=3),
    Case("an endless loop", loop_for_ever, "TimedOut", timeout=3),
    Case(
        "a loop in C", tasks.block_in_c, "by force", {"hold_interpreter": True}, timeout=1
    ),
]

CORPUS = [*RAISED, *VALUES, *DEATHS]
