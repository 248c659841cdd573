"""What lives in a worker's main process: its row, its threads, and the dispatcher's work."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import psutil
from django.db import connections

from . import (
    bell,
    broker,
    held,
    incidents,
    interrupts,
    measures,
    prefork,
    rescue,
    resending,
    rollup,
    timekeeping,
    vitals,
)
from .accounting.sweep import Accountant
from .announcing import has_stored
from .burst import burst
from .conf import conf, known_queues
from .context import without_user_code
from .departure import Departure
from .dispatch import make_pass
from .errands import safely
from .exceptions import BrokerUnavailable
from .execution import here
from .forks import DatabaseWork
from .hands import Hands
from .keeper import Keeper
from .lines import lease
from .lockwaits import LockWaitOver, impatient
from .lookout import Lookout
from .models import Worker
from .slots import LOOKAHEAD
from .timers import Every

logger = logging.getLogger("taskcontrol")

#: Seconds between two passes of a stream of rings.
PACE = LOOKAHEAD / 2
#: Seconds between two messages that let stored news be told.
NEWS_EVERY = 1.0
#: Seconds between two looks for schedules that are due, and for which a message about
#: them is of use.
SCHEDULES_EVERY, KNOCK_EXPIRES = 1.0, 5.0
#: The part of ``WORKER_LOST_AFTER`` after a sign of life in which claimed bodies may begin.
LEASE = 0.7
#: Seconds between two tries while the broker does not answer.
BROKER_PAUSE = 2.0


class Boot:
    """One boot of a worker: made when it is ready, ended when it shuts down."""

    def __init__(self, consumer: Any) -> None:
        self.consumer = consumer
        self.stopped = threading.Event()
        self.leaving = False
        self.departure = Departure(self)
        self.prefork = type(consumer.pool).__module__.endswith("prefork")
        self.process = psutil.Process()
        self.threads: list[threading.Thread] = []
        self.by_hand: list[threading.Thread] = []
        self._trouble_at = float("-inf")
        self._news = Every(NEWS_EVERY, self._have_news_told)
        self.facts = self._facts()
        #: None until the database has taken it: the keeper tries until then.
        self.row: Worker | None = None
        self.lookout = Lookout(self)
        self.keeper = Keeper(self)
        #: What gives to its own children without the broker, where its pool allows that.
        self.hands = Hands(self) if conf.DECK and prefork.serves(consumer.pool) else None

    def start(self) -> None:
        """Register and start the threads."""
        safely(self.register, self.keeper.work)
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
        self.departure.insist()
        interrupts.note_leaving()
        if self.hands is not None:
            self.hands.wake()

    def stop(self) -> None:
        """Give back what is held and say goodbye; the pool has ended by now."""
        if self.stopped.is_set() or os.getpid() != self.process.pid:
            return
        self.leaving = True
        self.departure.write_ends()
        self.stopped.set()
        bell.ring()
        for thread in self.threads[:2]:
            thread.join(timeout=5)
        self.keeper.say_goodbye()
        connections.close_all()

    def register(self) -> None:
        """Begin a life under a new row."""
        since = lease.clock()
        worker = Worker(**{**self.facts, **self.capacity()})
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
        return {
            "hostname": self.consumer.hostname,
            "pid": os.getpid(),
            "pool": type(self.consumer.pool).__module__.rpartition(".")[2],
            "prefetch_off": bool(app.conf.worker_disable_prefetch) and transport == "redis",
            "versions": vitals.versions(),
        }

    def queues(self) -> list[str]:
        """Return the queues that it consumes now: Celery's control may change them."""
        return sorted(self.consumer.app.amqp.queues.consume_from)

    def capacity(self) -> dict[str, Any]:
        """Return what it can take now: a sign of life tells it again."""
        pool = self.consumer.pool
        return {
            # Celery takes its parts from a pool that has ended.
            "pool_size": getattr(pool, "num_processes", None) or pool.limit or 1,
            "queues": self.queues(),
        }

    def register_again(self) -> None:
        """Begin a new life after this worker was declared lost: others have its tasks now."""
        lease.end()
        before, outlived = here.worker_id, held.attempts()
        if self.prefork:
            # Before there is a number under which they could claim: what they run is others'.
            for pid in getattr(self.consumer.pool, "info", {}).get("processes", ()):
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
                        safely(sweep.run, work)
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
        queues = self.queues()
        if queues and has_stored():
            broker.send(broker.DELIVER, queue=queues[0], expires=NEWS_EVERY)

    def _have_schedules_fired(self) -> None:
        """Ask a child to make the tasks of what is due: that imports the project's code."""
        queues = self.queues()
        if queues and timekeeping.anything_due():
            broker.send(broker.SCHEDULES, queue=queues[0], expires=KNOCK_EXPIRES)

    def _end_burst(self) -> None:
        burst.end_if_over(here.worker_id, self.queues())

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


def _begin(name: str, target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, name=f"taskcontrol-{name}", daemon=True)
    thread.start()
    return thread


def declare_queues(app: Any) -> None:
    """Tell Celery of every known queue, so that ``-Q`` takes each and none is forgotten.

    One that the project has declared itself stays as it is: a quorum queue would else be
    taken for a classic one, of which the broker refuses to let it be consumed.
    """
    queues = app.amqp.queues
    for name in known_queues():
        if name not in queues:
            queues.add(queues.new_missing(name))
