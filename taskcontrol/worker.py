"""What lives in a worker's main process: its row, the dispatcher's thread, the keeper's."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import psutil
from django.db import (
    DataError,
    Error as DatabaseError,
    IntegrityError,
    ProgrammingError,
    connections,
)
from django.db.models import Q

from . import (
    bell,
    broker,
    clocks,
    crashpoints,
    forcing,
    held,
    incidents,
    interrupts,
    lifecycle,
    losses,
    measures,
    memory,
    prefork,
    rescue,
    resending,
    rollup,
    timekeeping,
)
from .accounting.sweep import Accountant
from .announcing import has_stored
from .brief import brief
from .burst import burst
from .conf import conf, known_queues
from .context import without_user_code
from .dialect import DatabaseNow, free_keys, update_returning
from .dispatch import make_pass
from .exceptions import BrokerUnavailable
from .execution import here
from .failures import forced_timeout
from .forks import DatabaseWork
from .hands import Hands
from .history import record
from .lines import lease
from .lockwaits import LockWaitOver, impatient
from .models import TaskEvent, TaskLog, Worker, seconds
from .slots import LOOKAHEAD
from .status import Status
from .timers import Every

logger = logging.getLogger("taskcontrol")

#: Seconds between two looks for canceled attempts.
WATCH_EVERY = 1.0
#: Seconds that a Started task may be held by nothing here before it counts as lost: a child
#: claims before the main process has heard that it began.
UNHELD_FOR = 3.0
#: Seconds between two passes of a stream of rings.
PACE = LOOKAHEAD / 2
#: Seconds after the hard time limit after which the keeper does what the event loop, which
#: stands still while the broker is away, did not.
LIMIT_SLACK = 2.0
#: Seconds between two messages that let stored news be told.
NEWS_EVERY = 1.0
#: Seconds between two looks for schedules that are due, and for which a message about
#: them is of use.
SCHEDULES_EVERY, KNOCK_EXPIRES = 1.0, 5.0
#: The part of ``WORKER_LOST_AFTER`` after a sign of life in which claimed bodies may begin.
LEASE = 0.7
#: What a database says of the call, whenever that is made.
LASTING = (DataError, IntegrityError, ProgrammingError)
#: Seconds between two tries while the broker does not answer.
BROKER_PAUSE = 2.0


class Boot:
    """One boot of a worker: made when it is ready, ended when it shuts down."""

    def __init__(self, consumer: Any) -> None:
        self.consumer = consumer
        self.stopped = threading.Event()
        self.leaving = False
        self.prefork = type(consumer.pool).__module__.endswith("prefork")
        self.process = psutil.Process()
        self.threads: list[threading.Thread] = []
        self.by_hand: list[threading.Thread] = []
        self._trouble_at = float("-inf")
        self._news = Every(NEWS_EVERY, self._have_news_told)
        self.facts = self._facts()
        #: None until the database has taken it: the keeper tries until then.
        self.row: Worker | None = None
        self.keeper = Keeper(self)
        #: What gives to its own children without the broker, where its pool allows that.
        self.hands = Hands(self) if conf.DECK and prefork.serves(consumer.pool) else None

    def start(self) -> None:
        """Register and start the threads."""
        _safely(self.register, self.keeper.work)
        # The main thread needs the database no more, and no child shall inherit a connection.
        connections.close_all()
        for name, target in (
            ("dispatcher", self._dispatch_for_ever),
            ("keeper", self.keeper.keep_for_ever),
            ("bell", partial(bell.listen, self.stopped)),
        ):
            self.threads.append(_begin(name, target))
        if self.hands is not None:
            held.by_hand = self.hands
            self.by_hand = [
                _begin("hands", self.hands.serve_for_ever),
                _begin("journal", self.hands.journal.write_for_ever),
            ]
        # Celery tells nobody that a cold shutdown is over.
        atexit.register(self.stop)

    def leave(self) -> None:
        """Take no new work; the keeper tells it within a second.

        Runs in a Unix signal handler: the main thread, which that interrupts, may hold the
        lock of an Event, so nothing is set here but flags.
        """
        self.leaving = True
        interrupts.note_leaving()
        if self.hands is not None:
            self.hands.wake()

    def stop(self) -> None:
        """Give back what is held and say goodbye; the pool has ended by now."""
        if self.stopped.is_set() or os.getpid() != self.process.pid:
            return
        self.leaving = True
        self._stop_hands()
        self.stopped.set()
        bell.ring()
        for thread in self.threads[:2]:
            thread.join(timeout=5)
        self.keeper.say_goodbye()
        connections.close_all()

    def _stop_hands(self) -> None:
        """Write what the children have said last, before what they held is given back."""
        if self.hands is None:
            return
        self.hands.stop()
        if self.by_hand:
            self.by_hand[0].join(timeout=5)
            self.hands.journal.stop(within=5)
            self.by_hand[1].join(timeout=6)

    def register(self) -> None:
        """Begin a life under a new row."""
        since = lease.clock()
        worker = Worker(**self.facts)
        worker.save(force_insert=True)
        self.row = worker
        here.worker_id = worker.pk
        self.renew_lease(since)

    @staticmethod
    def renew_lease(since: float) -> None:
        """A sign of life of that time was taken: bodies may begin for most of what it lasts."""
        lease.renew(since, LEASE * conf.WORKER_LOST_AFTER)

    def _facts(self) -> dict[str, Any]:
        app = self.consumer.app
        transport = self.consumer.connection.transport.driver_type
        queues = sorted(app.amqp.queues.consume_from)
        return {
            "hostname": self.consumer.hostname,
            "pid": os.getpid(),
            "pool": type(self.consumer.pool).__module__.rpartition(".")[2],
            "pool_size": self.consumer.pool.num_processes or self.consumer.pool.limit or 1,
            "queues": queues,
            "prefetch_off": bool(app.conf.worker_disable_prefetch) and transport == "redis",
            "versions": _versions(),
        }

    def register_again(self) -> None:
        """Begin a new life after this worker was declared lost: others have its tasks now."""
        lease.end()
        before, outlived = here.worker_id, held.attempts()
        if self.prefork:
            # Before there is a number under which they could claim: what they run is others'.
            for pid in self.consumer.pool.info["processes"]:
                with suppress(psutil.NoSuchProcess):
                    held.kill_tree(psutil.Process(pid))
        if self.hands is not None:
            self.hands.forget()
        self.register()
        for task_id, attempt in outlived:
            self._report_outlived(task_id, attempt, before)

    def _report_outlived(self, task_id: int, attempt: int, worker_id: int | None) -> None:
        incidents.report(
            incidents.Kind.ZOMBIE,
            f"Attempt {attempt} of task {task_id} still ran in {self.facts['hostname']}, "
            "which was silent, and had been declared lost.",
            task_id=task_id,
            attempt=attempt,
            key="body",
            worker=worker_id,
            repair="its process was ended" if self.prefork else "its end is refused",
            over=True,
        )

    def in_loop(self, call: Callable[..., Any], *args: Any) -> None:
        """Run ``call`` in the worker's event loop, where children change hands."""
        hub = getattr(self.consumer, "hub", None)
        if hub is not None:
            hub.call_soon(call, *args)
        else:
            call(*args)

    def _dispatch_for_ever(self) -> None:
        sweeps = [
            Every(conf.HEARTBEAT_INTERVAL, self._rescue),
            Every(conf.HEARTBEAT_INTERVAL, resending.resend_unclaimed),
            Every(measures.EVERY, measures.learn),
            Every(rollup.EVERY, rollup.roll_up),
            Every(conf.HEARTBEAT_INTERVAL, Accountant().run),
            Every(SCHEDULES_EVERY, self._have_schedules_fired),
            Every(conf.DISPATCH_INTERVAL, self._end_burst),
        ]
        work = DatabaseWork()
        with without_user_code(), impatient(conf.DATABASE):
            while not self.stopped.is_set():
                bell.wait(conf.DISPATCH_INTERVAL)
                if not self.stopped.is_set():
                    if self._dispatch_once(work):
                        self._let_ends_gather()
                    for sweep in sweeps:
                        _safely(sweep.run, work)
        connections.close_all()

    def _let_ends_gather(self) -> None:
        """Short tasks wait and feed the slots, while the rings of ends make one pass."""
        if self.hands is not None and self.hands.deck.all:
            self.hands.deck.wait_until_low(PACE)
        else:
            self.stopped.wait(PACE)

    def _rescue(self) -> None:
        """Rescue, but not at once after the database was away.

        Then every worker seems silent, this one too, until it has given its next sign.
        """
        if time.monotonic() - self._trouble_at > conf.HEARTBEAT_INTERVAL:
            rescue.rescue_lost_tasks()

    def _have_news_told(self) -> None:
        """Ask a child to tell what was stored because user code must not run here."""
        if has_stored():
            broker.send(broker.DELIVER, queue=self.facts["queues"][0], expires=NEWS_EVERY)

    def _have_schedules_fired(self) -> None:
        """Ask a child to make the tasks of what is due: that imports the project's code."""
        if timekeeping.anything_due():
            queue = self.facts["queues"][0]
            broker.send(broker.SCHEDULES, queue=queue, expires=KNOCK_EXPIRES)

    def _end_burst(self) -> None:
        burst.end_if_over(here.worker_id, self.facts["queues"])

    def _dispatch_once(self, work: DatabaseWork) -> bool:
        try:
            with work.piece():
                ahead = make_pass(self.hands).ahead
                self._news.run()
                return ahead
        except BrokerUnavailable as error:
            logger.warning("%s", error)
            if self.hands is None:
                self.stopped.wait(BROKER_PAUSE)
        except LockWaitOver:
            logger.info("A dispatch pass gave up on a lock; the next one comes soon.")
        except Exception:
            logger.exception("A dispatch pass failed; the next one comes within a second.")
            self._trouble_at = time.monotonic()
            connections[conf.DATABASE].close()
            self.stopped.wait(conf.DISPATCH_INTERVAL)
        return False


class Keeper:
    """Renews the worker's row, stops canceled bodies, and tells what happened to children."""

    def __init__(self, boot: Boot) -> None:
        self.boot = boot
        self._wake = threading.Event()
        self._errands: list[Callable[[], Any]] = []
        self._unheld_since: dict[tuple[int, int], float] = {}
        self._asked_at: dict[tuple[int, int], float] = {}
        #: What ran here at the last look although no row waited for it.
        self._strays: set[tuple[int, int]] = set()
        #: Whose hard limit has come, which could not be written yet.
        self._overdue: set[tuple[int, int]] = set()
        self._loop_seen_at = time.monotonic()
        self._kills = memory.KillsForMemory()
        self.work = DatabaseWork()

    def do(self, errand: Callable[[], Any]) -> None:
        """Let the thread do ``errand`` soon: the event loop must not wait for a database.

        It is done again at a later tick while it returns False, waits for a lock, or the
        database is away.
        """
        self._errands.append(errand)
        self.wake()

    def wake(self) -> None:
        """Do not wait for the next tick."""
        self._wake.set()

    def keep_for_ever(self) -> None:
        """Work until the worker has stopped, also through a long warm shutdown."""
        beat = Every(conf.HEARTBEAT_INTERVAL, self._sign_of_life, insist=True)
        work = self.work
        with without_user_code(), impatient(conf.DATABASE):
            while not self.boot.stopped.is_set():
                if self.boot.row is None:
                    _safely(self.boot.register, work)
                else:
                    self._keep(beat, work)
                self._wake.wait(WATCH_EVERY)
                self._wake.clear()
        connections.close_all()

    def _keep(self, beat: Every, work: DatabaseWork) -> None:
        if self.boot.leaving:
            _safely(self._say_leaving, work)
        _safely(beat.run, work)
        self._run_errands()
        _safely(self._watch, work)

    def _say_leaving(self) -> None:
        """Let nothing more be sent to this worker."""
        rows = Worker.objects.filter(pk=here.worker_id, leaving_at=None)
        rows.update(leaving_at=DatabaseNow())

    def say_goodbye(self) -> None:
        """Hand in the row; what still stands as Started here runs elsewhere, uncounted."""
        with without_user_code(), impatient(conf.DATABASE):
            self._run_errands()
            if here.worker_id is None:
                return  # it never had a row, and what has no worker is not its own
            _safely(self._say_left, self.work)
            crashpoints.reached("worker.left")
            for row in TaskLog.objects.filter(occupies=True, worker=here.worker_id):
                _safely(partial(rescue.rescue_from_worker, row), self.work)

    def _say_left(self) -> None:
        self._say_leaving()
        now = DatabaseNow()
        rows = Worker.objects.filter(pk=here.worker_id, lost_at=None)
        rows.update(left_at=now, last_seen_at=now)

    def process_lost(self, task_id: int, attempt: int, why: str) -> bool:
        """A child died while it held an attempt, which another may still run."""
        if (task_id, attempt) in self._overdue:
            return self.timed_out(task_id, attempt)
        row = self._own(task_id, attempt)
        if row is None or held.has_body(task_id, attempt):
            return True
        crashpoints.reached("worker.lost")
        written = self._while_free(task_id, partial(self._write_loss, row, why))
        bell.ring()
        return written

    def _write_loss(self, row: TaskLog, why: str) -> None:
        if row.status == Status.STARTED:
            where = f"{self.boot.facts['hostname']}: {why.rstrip('.')}"
            killed = "SIGKILL" in why and self._kills.explain_one()
            losses.lose(row, where, for_memory=killed)
        else:
            lifecycle.release(row.pk, row.attempt)

    def timed_out(self, task_id: int, attempt: int) -> bool:
        """The hard limit of an attempt has come; its process is about to be killed."""
        key = (task_id, attempt)
        self._overdue.add(key)  # first: the database may be away
        row = self._own(*key)
        written = row is None or row.status != Status.STARTED
        if row is not None and not written:
            crashpoints.reached("worker.timed_out")
            fail = partial(lifecycle.fail, *key, **forced_timeout(row), body_gone=False)
            written = self._while_free(task_id, fail)
        if written:
            self._overdue.discard(key)
        return written

    def _while_free(self, task_id: int, act: Callable[[], Any]) -> bool:
        """Do ``act`` while the task's row is ours; False when somebody else holds it.

        One row that a caller's open transaction holds keeps the keeper from no other.
        """
        row = TaskLog.objects.filter(pk=task_id)
        with brief():
            if not free_keys(row):
                return not row.exists()
            act()
        return True

    def _own(self, task_id: int, attempt: int) -> TaskLog | None:
        """Return the row of an attempt that this worker has claimed, with whatever message."""
        rows = TaskLog.objects.filter(pk=task_id, attempt=attempt)
        return rows.filter(worker=here.worker_id).first()

    def _run_errands(self) -> None:
        until = time.monotonic() + WATCH_EVERY
        for _ in range(len(self._errands)):
            errand = self._errands.pop(0)
            if _safely(errand, self.work) is False:
                self._errands.append(errand)
                if time.monotonic() > until:
                    break  # somebody waits for a sign of life

    def _sign_of_life(self) -> None:
        rows = Worker.objects.filter(pk=here.worker_id, lost_at=None)
        since = lease.clock()
        values = {"last_seen_at": DatabaseNow(), **self._vitals()}
        written = update_returning(rows, values, ("leaving_at",))
        if any(row.leaving_at is not None for row in written) and not self.boot.leaving:
            self._go()
        if written:
            self.boot.renew_lease(since)
            return
        logger.error(
            "This worker was declared lost while it was silent; it stops what it runs and "
            "goes on under a new row."
        )
        self.boot.register_again()

    def _go(self) -> None:
        """Somebody wrote into the row that this worker shall leave: see ``draining.py``."""
        logger.info("This worker was told to leave: it finishes what runs and ends.")
        self.boot.leave()
        os.kill(os.getpid(), signal.SIGTERM)

    def _vitals(self) -> dict[str, Any]:
        self._kills.look()
        answered = self._loop_seen_at
        self.boot.in_loop(self._loop_is_alive)
        return {
            "consuming": time.monotonic() - answered < 4 * conf.HEARTBEAT_INTERVAL,
            "memory_kb": self.boot.process.memory_info().rss // 1024,
            "cpu_percent": self.boot.process.cpu_percent(),
            "children": _children(self.boot.process),
            "held": held.attempts(),
            "clock_offset": clocks.seconds_ahead(conf.DATABASE),
        }

    def _loop_is_alive(self) -> None:
        self._loop_seen_at = time.monotonic()

    def _watch(self) -> None:
        """Look at what this worker's bodies hold: stop, free, or declare lost."""
        fresh = Q(status=Status.QUEUED, queued_at__gt=DatabaseNow() - seconds(UNHELD_FOR))
        mine = TaskLog.objects.filter(~fresh, Q(worker=here.worker_id), occupies=True)
        seen = set()
        for row in mine.only("status", "attempt", "timeout"):
            seen.add((row.pk, row.attempt))
            if row.status == Status.STARTED:
                self._check_held(row)
            elif row.status == Status.QUEUED:
                self._check_claimed(row)
            else:
                self._stop(row)
        self._end_unwanted(set(held.attempts()) - seen)
        held.sweep(keep=seen)
        self._overdue &= seen
        for times in (self._unheld_since, self._asked_at):
            for key in times.keys() - seen:
                del times[key]

    def _end_unwanted(self, strays: set[tuple[int, int]]) -> None:
        """End the bodies that no row waits for, once an account has said so.

        One that claims at this moment, or is busy after its end, is here for a good reason.
        """
        for key in forcing.wanted_of(strays & self._strays):
            if held.kill(*key, signal.SIGKILL):
                gone = TaskLog(pk=key[0], attempt=key[1])
                record([gone], TaskEvent.Kind.FORCED, detail="it had been given up on")
        self._strays = strays

    def _check_held(self, row: TaskLog) -> None:
        """A Started row that nothing here holds was lost with its process, or its end was."""
        key = (row.pk, row.attempt)
        if held.has_body(*key):
            self._unheld_since.pop(key, None)
            child = held.find(*key)
            most = row.timeout + conf.CANCEL_GRACE + LIMIT_SLACK
            if child is not None and child.runs_for() > most:
                self.timed_out(*key)
        elif self._unheld_for(key) > UNHELD_FOR:
            who = "child" if self.boot.prefork else "thread"
            self.process_lost(*key, f"no {who} runs it")

    def _check_claimed(self, row: TaskLog) -> None:
        """What was claimed for this worker's children and is in nobody's hands waits again."""
        key = (row.pk, row.attempt)
        if held.has_body(*key):
            self._unheld_since.pop(key, None)
        elif time.monotonic() - self._unheld_since.setdefault(key, time.monotonic()) > (
            UNHELD_FOR
        ):
            why = "its worker had claimed it, and lost sight of it"
            lifecycle.unsend([key], detail=why, worker_id=here.worker_id)
            bell.ring()

    def _stop(self, row: TaskLog) -> None:
        """A body that is not wanted any more: free its place if it is gone, else stop it.

        One that goes on behind its fenced block has ended well, and is let alone. A thread
        cannot be stopped: its body goes where it asks.
        """
        key = (row.pk, row.attempt)
        if held.drop(*key):
            lifecycle.release(*key)
            bell.ring()
        elif held.has_body(*key):
            if row.status != Status.FINISHED and held.find(*key) is not None:
                self._make_go(row)
        elif self._is_over(key) and self._while_free(
            row.pk, partial(lifecycle.release, *key)
        ):
            bell.ring()

    def _make_go(self, row: TaskLog) -> None:
        key = (row.pk, row.attempt)
        asked = self._asked_at.get(key)
        if asked is None:
            crashpoints.reached("worker.stopping")
            self._asked_at[key] = time.monotonic()
            # Before it is: a body that listens may be gone in the same moment.
            record([row], TaskEvent.Kind.TOLD)
            held.kill(*key, _cancel_signal())
        elif (
            time.monotonic() - asked > conf.CANCEL_GRACE or forcing.is_wanted(row)
        ) and held.kill(*key, signal.SIGKILL):
            detail = "its process did not stop when asked"
            record([row], TaskEvent.Kind.FORCED, detail=detail)

    def _is_over(self, key: tuple[int, int]) -> bool:
        """Return whether a body is gone: seen to go, or seen nowhere for long.

        It may have ended its task a moment after its claim, in a fenced block, and go on
        in a child of which the event loop has not told yet.
        """
        return self._unheld_for(key) >= (0 if self._is_known(key) else UNHELD_FOR)

    def _unheld_for(self, key: tuple[int, int]) -> float:
        """Return for how many seconds nothing here runs an attempt; -1 when that is unsure."""
        since = self._unheld_since.setdefault(key, time.monotonic())
        sure = self._is_known(key) or self._loop_seen_at > since
        return time.monotonic() - since if sure else -1

    def _is_known(self, key: tuple[int, int]) -> bool:
        """Return whether it was told who took an attempt: of a child by the event loop, once
        it turns; a thread says it itself.
        """
        return not self.boot.prefork or held.find(*key) is not None


def _begin(name: str, target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, name=f"taskcontrol-{name}", daemon=True)
    thread.start()
    return thread


def _cancel_signal() -> signal.Signals:
    from .interrupts import CANCEL

    return CANCEL


def _safely(call: Callable[[], Any], work: DatabaseWork) -> Any:
    """Run one piece of a thread's work; a failure is logged and ends nothing.

    Returns what ``call`` does, and False when it gave up on a lock, or for as long as the
    database is away.
    """
    try:
        with work.piece():
            return call()
    except LockWaitOver as over:
        logger.warning("%r gave up on a lock, and is tried again: %s", call, over)
        return False
    except Exception as error:
        away = isinstance(error, DatabaseError) and not isinstance(error, LASTING)
        what = "it is tried again" if away else "the worker goes on"
        logger.exception("%r failed in a worker's main process; %s.", call, what)
        connections[conf.DATABASE].close()
        return False if away else None


def _children(process: psutil.Process) -> list[dict[str, int]]:
    return [
        {"pid": child.pid, "memory_kb": child.memory_info().rss // 1024}
        for child in process.children()
        if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
    ]


def _versions() -> dict[str, str]:
    import platform

    import celery
    import django

    from . import __version__

    return {
        "python": platform.python_version(),
        "django": django.get_version(),
        "celery": celery.__version__,
        "taskcontrol": __version__,
    }


def declare_queues(app: Any) -> None:
    """Tell Celery of every known queue, so that ``-Q`` takes each and none is forgotten.

    One that the project has declared itself stays as it is: a quorum queue would else be
    taken for a classic one, of which the broker refuses to let it be consumed.
    """
    queues = app.amqp.queues
    for name in known_queues():
        if name not in queues:
            queues.add(queues.new_missing(name))
