"""The sample tasks: one small function per behavior."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import Any

from celery import shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from django.db import DatabaseError, connection, connections, transaction
from django.db.models import F

import taskcontrol
from taskcontrol.context import current_user
from taskcontrol.models import TaskLog
from tests.models import Counter
from tests.recording import ENDED, STARTED, record

logger = logging.getLogger(__name__)


def nothing() -> None:
    """Do nothing."""


def give_back(value: Any = None) -> Any:
    """Return ``value``."""
    return value


def takes_job_id(job_id: str) -> str:
    """Return a parameter that has the name of an option."""
    return job_id


def type_of(value: Any) -> str:
    """Return the name of the type with which an argument arrived."""
    return type(value).__qualname__


def add(left: int, right: int = 0) -> int:
    """Return the sum."""
    return left + right


def fail(message: str = "it failed") -> None:
    """Raise ValueError."""
    raise ValueError(message)


def fail_recorded(tag: str = "") -> None:
    """Write down its start and raise ValueError."""
    record(STARTED, tag=tag)
    raise ValueError("it failed")


def fail_until(attempt: int) -> int:
    """Raise until the task is at ``attempt``."""
    task = taskcontrol.current_task()
    assert task is not None
    if task.attempt < attempt:
        raise ValueError(f"attempt {task.attempt}")
    return int(task.attempt)


def ask_for_retry(delay: float | None = None) -> None:
    """Raise taskcontrol.Retry."""
    raise taskcontrol.Retry(delay)


def discard(reason: str = "not worth it") -> None:
    """Raise taskcontrol.Discard."""
    raise taskcontrol.Discard(reason)


# Time


def recorded(seconds: float = 0, tag: str = "") -> str:
    """Write down its start and its end, ``seconds`` apart."""
    record(STARTED, tag=tag)
    time.sleep(seconds)
    record(ENDED, tag=tag)
    return tag


def fail_late(seconds: float) -> None:
    """Write down its start, and raise ValueError after so many seconds."""
    record(STARTED)
    time.sleep(seconds)
    raise ValueError("it failed")


def hold_own_row(seconds: float) -> None:
    """Hold the row of its own task in a transaction for so many seconds."""
    task = taskcontrol.current_task()
    assert task is not None
    with transaction.atomic():
        TaskLog.objects.select_for_update().get(pk=task.id)
        record(STARTED)
        time.sleep(seconds)


def go_on_behind_the_end(seconds: float) -> str:
    """End within a fenced block, and go on behind it."""
    task = taskcontrol.current_task()
    assert task is not None
    record(STARTED)
    with task.fenced():
        pass
    time.sleep(seconds)
    record(ENDED)
    return "all of it"


def slow_at_first(seconds: float) -> None:
    """Take so long in the first attempt, and no time in others."""
    record(STARTED)
    task = taskcontrol.current_task()
    assert task is not None
    if task.attempt == 1:
        time.sleep(seconds)
    record(ENDED)


def sleep(seconds: float) -> float:
    """Sleep as Python code does: a signal wakes it."""
    record(STARTED)
    time.sleep(seconds)
    return seconds


def sleep_in_c(seconds: int) -> None:
    """Sleep in C without the interpreter: no signal handler of Python runs meanwhile."""
    record(STARTED)
    left = seconds
    while left:
        left = ctypes.PyDLL(None).sleep(left)


def busy(seconds: float) -> None:
    """Compute without a pause."""
    record(STARTED)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def swallow_everything(seconds: float) -> None:
    """Catch whatever is raised into it, BaseException included, and go on."""
    record(STARTED)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(0.05)
        except BaseException:  # noqa: BLE001 - the point
            record("swallowed")


def finish_late() -> str:
    """Take the warning that its time is over, and still return."""
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        time.sleep(0.2)
    return "late"


def ignore_sigterm(seconds: float) -> None:
    """Refuse the polite signal and sleep on."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    swallow_everything(seconds)


def ignore_cancel(seconds: float) -> None:
    """Refuse the signal by which a cancel is told, and sleep on."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    swallow_everything(seconds)


def catch_exception(seconds: float) -> None:
    """Catch every Exception, as careless code does, and go on."""
    record(STARTED)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(0.05)
        except Exception:  # noqa: BLE001 - the point
            record("swallowed")


def wait_for_lock() -> None:
    """Wait for a lock that is never released."""
    lock = threading.Lock()
    lock.acquire()
    record(STARTED)
    lock.acquire()


def block_in_c(*, hold_interpreter: bool = False) -> None:
    """Wait for ever in C, where no signal wakes it; nothing else runs if it holds the GIL."""
    library = (ctypes.PyDLL if hold_interpreter else ctypes.CDLL)(None)
    mutex = ctypes.create_string_buffer(128)
    library.pthread_mutex_init(mutex, None)
    library.pthread_mutex_lock(mutex)
    record(STARTED)
    library.pthread_mutex_lock(mutex)


def start_a_process_and_swallow(seconds: float) -> None:
    """Start a process of its own, and stop for nobody."""
    child = subprocess.Popen(["sleep", str(seconds)])
    record("started a process", child=child.pid)
    swallow_everything(seconds)


def clean_up_when_stopped(seconds: float) -> None:
    """Sleep; write down that the finally block ran."""
    record(STARTED)
    try:
        time.sleep(seconds)
    finally:
        record("cleaned up")


def cooperate(seconds: float) -> None:
    """Ask every few milliseconds whether it was canceled."""
    record(STARTED)
    task = taskcontrol.current_task()
    assert task is not None
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        task.check_canceled()
        time.sleep(0.02)


# Limits


def _beat(name: str, kind: str) -> None:
    """Show every few milliseconds that the body runs, and end in the way of ``kind``."""
    until = time.monotonic() + (60 if kind in {"over_time", "swallow"} else 0.05)
    while time.monotonic() < until:
        try:
            record("beat", method=name)
            time.sleep(0.01)
        except BaseException:
            if kind != "swallow":
                raise
    if kind == "fail":
        raise ValueError("as asked")
    if kind == "die":
        os._exit(1)


def limited_to_1(kind: str) -> None:
    """Beat; at most one at a time."""
    _beat("limited_to_1", kind)


def limited_to_2(kind: str) -> None:
    """Beat; at most two at a time."""
    _beat("limited_to_2", kind)


def limited_to_5(kind: str) -> None:
    """Beat; at most five at a time."""
    _beat("limited_to_5", kind)


# Ends of the process


def leave(status: int = 0) -> None:
    """Call sys.exit."""
    record(STARTED)
    sys.exit(status)


def leave_at_once(status: int = 0) -> None:
    """Call os._exit: nothing is cleaned up."""
    record(STARTED)
    os._exit(status)


def kill_itself(number: int = signal.SIGKILL) -> None:
    """Send itself a signal: SIGKILL as the kernel does when memory is short."""
    record(STARTED)
    os.kill(os.getpid(), number)
    time.sleep(60)


def crash() -> None:
    """Read address 0 in C."""
    record(STARTED)
    ctypes.string_at(0)


def interrupt() -> None:
    """Raise KeyboardInterrupt."""
    raise KeyboardInterrupt


def run_out_of_memory() -> None:
    """Raise MemoryError."""
    raise MemoryError("no more")


def allocate(megabytes: int, seconds: float = 0) -> int:
    """Hold and touch so much memory."""
    held = bytearray(megabytes * 1024 * 1024)
    for page in range(0, len(held), 4096):
        held[page] = 1
    time.sleep(seconds)
    return len(held)


def recurse() -> None:
    """Raise RecursionError."""
    recurse()


def exit_generator() -> None:
    """Raise GeneratorExit."""
    raise GeneratorExit


def cancel_itself_in_asyncio() -> None:
    """Raise asyncio's CancelledError, which is no Exception."""
    raise asyncio.CancelledError


def kill_itself_until(attempt: int) -> None:
    """Send itself SIGKILL until the task is at ``attempt``."""
    task = taskcontrol.current_task()
    assert task is not None
    if task.attempt < attempt:
        kill_itself()


def terminate_itself_until(attempt: int) -> None:
    """Send itself SIGTERM, as who shuts a worker down does, until ``attempt``."""
    task = taskcontrol.current_task()
    assert task is not None
    if task.attempt < attempt:
        kill_itself(signal.SIGTERM)


def swallow_sigterm() -> str:
    """Send itself SIGTERM, catch what comes of it and return all the same."""
    try:
        kill_itself(signal.SIGTERM)
    except SystemExit:
        record("swallowed")
    return "done"


def freeze_itself_for(seconds: float) -> None:
    """Stop its process so long."""
    record(STARTED)
    subprocess.Popen(["sh", "-c", f"sleep {seconds}; kill -CONT {os.getpid()}"])
    os.kill(os.getpid(), signal.SIGSTOP)


# What a body leaves behind


def break_its_connection() -> None:
    """Close the database's connection under Django."""
    connection.ensure_connection()
    connection.connection.close()


def break_its_transaction() -> None:
    """Enter a transaction, break it, and never leave it."""
    transaction.atomic().__enter__()
    with suppress(DatabaseError), connection.cursor() as cursor:
        cursor.execute("SELECT no_such_column")
    connection.needs_rollback = True


def leave_transaction_open(name: str = "open") -> None:
    """Enter a transaction, write, and never leave it."""
    transaction.atomic().__enter__()
    raise_counter(name)


def begin_past_django(name: str = "begun") -> None:
    """Begin a transaction of which Django knows nothing, write, and never end it."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
    raise_counter(name)


def leave_autocommit_off() -> None:
    """Switch autocommit off and write."""
    transaction.set_autocommit(False)
    raise_counter("nobody")


def close_standard_output() -> None:
    """Close what print writes to."""
    print("before")  # noqa: T201 - the point
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
    sys.stdout.close()


def change_directory_and_locale() -> None:
    """Change what belongs to the whole process."""
    os.chdir("/")
    os.umask(0o077)
    os.environ["TZ"] = "Asia/Kathmandu"
    time.tzset()


def leave_a_thread() -> None:
    """Start a thread that runs on and writes."""
    threading.Thread(target=raise_counter, args=("nobody",), daemon=True).start()


def fork_and_leave() -> None:
    """Fork as careless code does; the copy ends at once."""
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def killed_beside_its_copy(*, in_c: bool = False) -> None:
    """Fork a copy that stays, as a pool of processes does, and be killed; not a second time."""
    record(STARTED)
    task = taskcontrol.current_task()
    assert task is not None
    if task.attempt > 1:
        return
    copy = ctypes.PyDLL(None).fork() if in_c else os.fork()
    if not copy:
        time.sleep(120)
        os._exit(0)
    record("copied", pid=copy)
    os.kill(os.getpid(), signal.SIGKILL)


def come_back_twice(seconds: float) -> None:
    """Fork a copy that returns as the body itself does, and at once."""
    record(STARTED)
    copy = os.fork()
    if copy:
        record("copied", pid=copy)
        time.sleep(seconds)
        record(ENDED)


def close_all_files(seconds: float) -> None:
    """Close files that it did not open, as who becomes a daemon does; not a second time."""
    record(STARTED)
    task = taskcontrol.current_task()
    assert task is not None
    if task.attempt == 1:
        os.closerange(3, 4096)
        time.sleep(seconds)


# Output


def talk(line: str = "hello") -> None:
    """Print, write to stderr, log."""
    print(f"printed {line}")  # noqa: T201 - the point
    sys.stderr.write(f"stderr {line}\n")
    logger.info("logged %s", line)
    logger.warning("warned %s", line)


def talk_much(megabytes: int = 1) -> None:
    """Print megabytes."""
    for number in range(megabytes * 1024):
        print(f"{number:06d} " + "x" * 1016)  # noqa: T201 - the point


def use_secret(password: str = "hunter2") -> None:
    """Fail with a secret among the local names."""
    api_token = f"token-of-{password}"
    raise RuntimeError(f"refused ({len(api_token)})")


def report(total: int, seconds: float = 0) -> None:
    """Report its progress, step by step, and go on in silence."""
    for done in range(1, total + 1):
        taskcontrol.notify_task_status(
            {"progress": {"count": done, "total": total, "description": f"step {done}"}}
        )
    time.sleep(seconds)


# Context


def whoami() -> str:
    """Return the name of the user for whom it runs."""
    user = current_user()
    return user.get_username() if user else ""


def whoami_after(seconds: float) -> list[str]:
    """Return for whom it runs, before and after a pause."""
    before = whoami()
    time.sleep(seconds)
    return [before, whoami()]


def fail_as_whom() -> None:
    """Raise ValueError that says for whom it runs, in which attempt."""
    task = taskcontrol.current_task()
    assert task is not None
    raise ValueError(f"{whoami()} in attempt {task.attempt}")


def which_attempt() -> list[int]:
    """Return the task and the attempt that it believes to be."""
    task = taskcontrol.current_task()
    assert task is not None
    return [int(task.id), int(task.attempt)]


def enqueue_child(method: str = "tests.tasks.whoami", **kwargs: Any) -> str:
    """Enqueue another task and return its name."""
    child = taskcontrol.enqueue(method, **kwargs)
    return str(child.name)


def run_child(method: str, **kwargs: Any) -> list[Any]:
    """Run another task here and now; return its result, and whose turn it is afterwards."""
    child = taskcontrol.enqueue(method, now=True, **kwargs)
    return [child.status, child.result, which_attempt()]


def enqueue_and_fail(*, atomic_block: bool = False) -> None:
    """Enqueue another task, within a transaction if asked, and fail."""
    with transaction.atomic() if atomic_block else nullcontext():
        taskcontrol.enqueue(recorded)
        raise ValueError("after the enqueue")


def enqueue_many(count: int) -> str:
    """Enqueue a batch and return its id."""
    return str(taskcontrol.bulk_enqueue({"method": nothing} for _ in range(count)))


def enqueue_one_by_one(count: int) -> None:
    """Enqueue so many tasks, each by a call and a commit of its own."""
    for _ in range(count):
        taskcontrol.enqueue(nothing)


# Effects


def raise_counter(name: str, amount: int = 1, *, then_fail: bool = False) -> None:
    """Raise a Counter by UPDATE; fail after it if asked."""
    Counter.objects.filter(name=name).update(value=F("value") + amount)
    if then_fail:
        raise ValueError("after the write")


# Exceptions that are hard to store


class Unpicklable(Exception):
    """Carries what cannot be pickled and needs two arguments to be made again."""

    def __init__(self, message: str, lock: Any) -> None:
        super().__init__(message)
        self.lock = lock


class Mute(Exception):
    """Has no text: every way to one raises."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def fail_with_nul() -> None:
    """Raise an error with a NUL byte in its text."""
    raise ValueError("before\0after")


def fail_with_surrogate() -> None:
    """Raise an error with half a character in its text."""
    raise ValueError("before\ud800after")


def fail_with_megabytes(megabytes: int = 3) -> None:
    """Raise an error with a very long text."""
    raise ValueError("head " + "x" * (megabytes * 1024 * 1024) + " tail")


def fail_unpicklably() -> None:
    """Raise an error that cannot be pickled."""
    raise Unpicklable("cannot be pickled", threading.Lock())


def fail_without_text() -> None:
    """Raise an error whose text raises."""
    raise Mute


class Rude(BaseException):
    """Is caught by no ``except Exception``."""


def fail_with_base_exception() -> None:
    """Raise what is no Exception."""
    raise Rude("out of the way")


class Shown(Exception):
    """Raises another error when its traceback is made."""

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise ValueError("no notes")


def fail_when_shown() -> None:
    """Raise an error that breaks who shows it."""
    raise Shown("look at me") from ValueError("the cause")


class Liar(Exception):
    """Gives no text where a text is asked for."""

    def __str__(self) -> str:
        return 42  # type: ignore[return-value]  # noqa: PLE0307 - the point


def raise_a_class_that_lies() -> None:
    """Raise an error whose text is no text."""
    raise Liar


def fail_in_chain(depth: int = 50) -> None:
    """Raise an error with a long chain of causes."""
    try:
        if depth:
            fail_in_chain(depth - 1)
    except ValueError as error:
        raise ValueError(f"level {depth}") from error
    raise ValueError("the first")


def fail_in_group() -> None:
    """Raise several errors at once."""
    raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])


def stop_iterating() -> None:
    """Raise StopIteration."""
    raise StopIteration


def return_unstorable() -> Any:
    """Return what JSON cannot hold."""
    return {1, object}


def return_megabytes(megabytes: int = 3) -> str:
    """Return a long text."""
    return "x" * (megabytes * 1024 * 1024)


def give_back_nul() -> str:
    """Return a text that PostgreSQL does not take."""
    return "before\0after"


def return_deep(depth: int = 100_000) -> list[Any]:
    """Return lists in lists, too deep to be walked."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def talk_unstorably() -> None:
    """Print what a database does not take."""
    print("before\0after \ud800")  # noqa: T201 - the point


# Celery tasks


@shared_task
def celery_add(left: int, right: int) -> int:
    """Return the sum: an ordinary Celery task."""
    return left + right


@shared_task(bind=True, max_retries=2)
def celery_retry(self: Any, *, until: int = 2) -> int:
    """Retry itself as Celery tasks do, until its request says that it did ``until`` times."""
    record(STARTED, retries=self.request.retries)
    if self.request.retries < until:
        raise self.retry(countdown=0, exc=ValueError("not yet"))
    return int(self.request.retries)


@shared_task(bind=True, autoretry_for=(ValueError,), max_retries=2, default_retry_delay=0)
def celery_autoretry(self: Any) -> None:
    """Fail with an error for which Celery retries by itself."""
    record(STARTED, retries=self.request.retries)
    self.update_state(state="PROGRESS")
    raise ValueError("always")


@shared_task(bind=True)
def celery_request(self: Any) -> dict[str, Any]:
    """Return what its request says."""
    request = self.request
    return {"id": request.id, "retries": request.retries, "eager": request.called_directly}


@shared_task(bind=True, max_retries=2)
def celery_retry_with_others(self: Any, number: int) -> int:
    """Retry with another argument until that is 3."""
    if number < 3:
        raise self.retry(kwargs={"number": number + 1}, countdown=0)
    return number


@shared_task
def celery_fail() -> None:
    """Fail without asking for a retry, which three times would be allowed."""
    raise ValueError("it failed")


@shared_task
def celery_ignore() -> None:
    """Raise Celery's Ignore."""
    raise Ignore


@shared_task
def celery_reject(*, requeue: bool = False) -> None:
    """Raise Celery's Reject."""
    record(STARTED)
    raise Reject("not for me", requeue=requeue)


@shared_task
def celery_whoami() -> str:
    """Return the name of the user for whom it runs."""
    return whoami()


def delay_celery_add() -> str:
    """Send a Celery task past the ledger and return its id."""
    return str(celery_add.delay(1, 2).id)


def call_celery_retry() -> str:
    """Call a Celery task like a function, as its author may."""
    try:
        celery_retry(until=1)
    except ValueError:
        return "celery's own Retry, not ours"
    return "nothing was raised"


# Safe calls


@taskcontrol.whitelist
def open_to_all(value: Any = None) -> Any:
    """May be called from outside."""
    return value


@functools.wraps(open_to_all)
def wrapped_but_not_opened(value: Any = None) -> Any:
    """Carries what ``wraps`` copies, and was opened by nobody."""
    return open_to_all(value)


@taskcontrol.whitelist
def thread_that_greets() -> str:
    """Ask in a thread for what its caller may not call; return the refusal."""
    refusals: list[str] = []

    def ask() -> None:
        try:
            taskcontrol.enqueue_safe("greet the user")
        except PermissionError as error:
            refusals.append(str(error))
        finally:
            connections.close_all()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return refusals[0]


@taskcontrol.whitelist
def pass_on() -> str:
    """May be called by anybody, and enqueues what some may call."""
    return str(taskcontrol.enqueue("tests.tasks.whoami").pk)


@taskcontrol.whitelist
def whoami_open() -> str:
    """May be called from outside, and returns for whom it runs."""
    return whoami()


@taskcontrol.whitelist(name="greet the user", permission="tests.view_paper")
def greet() -> str:
    """May be called from outside by some, and by another name."""
    return f"hello {current_user() or 'system'}"


@shared_task(bind=True)
@taskcontrol.whitelist
def celery_task_open_to_all(self: Any, value: int) -> int:
    """May be called from outside, and is a Celery task."""
    return value + 1


class Desk:
    """Has methods of its own that are open."""

    @staticmethod
    @taskcontrol.whitelist
    def ring() -> str:
        """Ring."""
        return "ring"

    @taskcontrol.whitelist
    @classmethod
    def name(cls) -> str:
        """Return its name."""
        return cls.__name__


# Batches


@taskcontrol.whitelist
def bulk_create(items: list[str]) -> dict[str, str]:
    """Let a coordinator make a batch whose id is known before."""
    batch_id = str(uuid.uuid4())
    coordinator = taskcontrol.enqueue(
        "tests.tasks._coordinator",
        queue="short",
        job_name="Bulk Create",
        arguments={"items": items, "batch_id": batch_id},
    )
    return {"batch_id": batch_id, "coordinator_task_name": coordinator.name}


def _coordinator(items: list[str], batch_id: str) -> None:
    taskcontrol.notify_task_status(message=f"Resolved {len(items)} items. Enqueueing…")
    members = [
        {
            "method": "tests.tasks.process_item",
            "batch_id": batch_id,
            "arguments": {"item": i},
        }
        for i in items
    ]
    taskcontrol.bulk_enqueue(members, batch_id=batch_id)


def process_item(item: str) -> str:
    """Return the item with a mark."""
    return f"{item} done"


def batch_ended(batch_id: str, outcome: str) -> dict[str, int]:
    """Write down that a batch has ended, and return its numbers."""
    record(outcome, batch=batch_id, by=whoami())
    return taskcontrol.batches.progress(batch_id)


# Locks and chunks


def hold_lock(key: str, seconds: float) -> None:
    """Hold a lock for so long."""
    with taskcontrol.lock(key):
        time.sleep(seconds)


def make_counters(names: list[str], size: int, wait_in: str = "", wait_at: str = "") -> Any:
    """Make a Counter for each name; wait to be killed in a chunk, or for an item, once."""
    chunks = taskcontrol.iter_chunks(_with_a_wait(names, wait_at), size=size)
    for chunk in chunks:
        record("chunk", items=list(chunk))
        for name in chunk:
            with chunk.item(name):
                make_counter(name)
        if wait_in in chunk:
            _wait_in_the_first_attempt()
    return chunks.summary


def make_counter(name: str) -> None:
    """Make a Counter; refuse a bad name after having written."""
    Counter.objects.create(name=name, value=1)
    if name.startswith("bad"):
        raise ValueError(f"{name} is no name")


def _with_a_wait(names: list[str], wait_at: str) -> Iterator[str]:
    for name in names:
        if name == wait_at:
            _wait_in_the_first_attempt()
        yield name


def _wait_in_the_first_attempt() -> None:
    task = taskcontrol.current_task()
    assert task is not None
    if task.attempt == 1:
        record("waits")
        time.sleep(60)
