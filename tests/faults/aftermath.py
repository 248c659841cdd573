"""Lets the processes of every case die, and everybody recover: one site for all of them."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

import psutil
from django.db import connections
from django.db.models import F

from taskcontrol import crashpoints, tasktypes
from taskcontrol.models import Announcement, DispatcherState, TaskLog, Worker as WorkerRow
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests.factories import make_task, make_type, make_worker, seconds_ago
from tests.faults import crashstories as stories, victims
from tests.faults.crashcases import CASES, CHILDREN, DECKS, SLEEPER, Case
from tests.integration.watching import is_alive, story as story_of
from tests.lab import RECORD
from tests.recording import Record
from tests.servers.redis import Redis
from tests.servers.worker import Worker
from tests.waiting import eventually

HOUR = timedelta(hours=1)
#: Nothing is waited for: the times of what is to be overdue are set back.
TIMES = {
    "HEARTBEAT_INTERVAL": 0.5,
    "WORKER_LOST_AFTER": 120,
    "RESEND_AFTER": 120,
    "CANCEL_GRACE": 1,
}
#: What a victim sleeps over is taken back after half of this.
SLEEP = {"WORKER_LOST_AFTER": 6}
#: Seconds after which a message that a worker of another case may have taken along is sent again.
TAKEN_ALONG = 3
CONF = {**TIMES, "DECK": False, "QUEUES": {case.queue: {} for case in CASES}}


class Aftermath:
    """Runs the cases, and keeps what became of each."""

    def __init__(self, cases: list[Case], broker: Redis) -> None:
        self.cases, self.broker, self.record = cases, broker, Record(RECORD)
        self.stories = {case: case.story(case.queue) for case in cases}
        self.trouble: dict[Case, Exception] = {}
        self.hung: dict[Case, Any] = {}
        self.good: set[Case] = set()
        self.sleeper: Worker | None = None
        self.seconds = 0.0
        self.bystanders: list[Any] = []

    def run(self, context: Any) -> None:
        """Let every case happen, and everybody recover."""
        began = time.monotonic()
        tasktypes.ensure([stories.METHOD])
        tasktypes.confirm(stories.METHOD)  # else one at a time would be tried
        for name in ("short", "naps", "lingers"):
            make_type(f"tests.faults.crashbodies.{name}", usual_seconds=0.001, declared={})
        # Nobody learns what a run takes: which road a task goes to a child hangs on it, and
        # what comes by hand may be of unknown length no more, or not be short.
        dispatcher_state()
        DispatcherState.objects.update(learned_at=seconds_ago(-24 * stories.LONG))
        self.make_bystanders()
        for case in self.cases:
            if not case.worker:
                with self.blamed_on(case):
                    self.fork(case, context)
        self.let_workers_die()
        left = [case.queue for case in self.cases if case.worker != CHILDREN]
        try:
            with Worker(left, conf=CONF):
                self.wait_for([case for case in self.cases if case.without_it])
                self.wake()
                self.wait_for(self.cases)
                eventually(lambda: not any(map(self.messages, self.cases)))
        finally:
            if self.sleeper is not None:
                self.sleeper.process.kill()
        self.seconds = time.monotonic() - began

    @contextmanager
    def blamed_on(self, case: Case) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the case's own test raises it
            self.trouble.setdefault(case, error)

    # Those who look on

    def make_bystanders(self) -> None:
        """Store tasks in every status that nobody has a reason to touch."""
        immortal = make_worker(["nobody"], last_seen_at=seconds_ago(-24 * stories.LONG))
        for status in Status:
            if status is not Status.QUEUED:
                worker = immortal if status is Status.STARTED else None
                make_task(status, queue="nobody", worker=worker)
        make_task(Status.QUEUED, queue="nobody", sent_at=seconds_ago(-stories.LONG))
        make_task(
            Status.FAILED,
            queue="nobody",
            retry_at=seconds_ago(-stories.LONG),
            max_retries=1,
        )
        make_task(Status.PENDING, queue="nobody", run_at=seconds_ago(-stories.LONG))
        self.bystanders = self.look_at_bystanders()

    def look_at_bystanders(self) -> list[Any]:
        return list(TaskLog.objects.filter(queue="nobody").order_by("pk").values())

    # Processes without a worker

    def fork(self, case: Case, context: Any) -> None:
        story = self.stories[case]
        story.prepare()
        places = stories.serve(case.queue) if story.served else None
        victim = context.Process(
            target=victims.live, args=(case.story.__name__, case.queue, case.spec, case.log)
        )
        victim.start()
        try:
            self.await_crash(case, victim)
            now, sent = self.statuses(case), self.messages(case)
            assert case.now in (None, now), f"just after it: {now!r}, not {case.now!r}"
            assert case.sent in (None, sent), f"{sent} messages, not {case.sent}"
            assert self.look_at_bystanders() == self.bystanders, "others were touched"
        finally:
            if places is not None:
                places.delete()
            self.let_time_pass(case)
            story.recover()

    def await_crash(self, case: Case, victim: Any) -> None:
        if case.kind == "stop":
            eventually(lambda: is_stopped(victim.pid), why=case.log.read_text)
            self.hung[case] = victim
        else:
            victim.join(60)
            killed = victim.exitcode == -signal.SIGKILL
            assert killed == (case.kind == "kill"), case.log.read_text()
        assert case.flag.read_text() == str(victim.pid), case.log.read_text()

    # Workers

    def let_workers_die(self) -> None:
        groups: dict[str, list[Case]] = defaultdict(list)
        for number, case in enumerate(self.cases):
            if case.worker:
                # Children die one after the other, and there are many: two workers share them.
                share = number % 2 if case.worker == CHILDREN else ""
                groups[f"{case.worker}{share}"].append(case)
        alone = [groups.pop(name, []) for name in DECKS]
        with ThreadPoolExecutor(max(len(groups), 1)) as pool:
            asleep = groups.pop(SLEEPER, [])
            dying = pool.map(self.let_worker_die, groups.values())
            # Not in a thread of the pool, with which the worker would end.
            self.let_worker_sleep(asleep)
            list(dying)
        for cases in alone:  # so that no other worker sends them by message
            if cases:
                self.let_worker_die(cases)

    def let_worker_die(self, cases: list[Case]) -> None:
        for case in cases:
            case.flag.touch()  # only one is armed at a time
        spec = {crashpoints.VARIABLE: ";".join(case.spec for case in cases)}
        conf = {**CONF, "DECK": cases[0].worker in DECKS}
        worker = Worker([case.queue for case in cases], env=spec, conf=conf)
        try:
            for number, case in enumerate(cases):
                with self.blamed_on(case):
                    if not worker.process.running:
                        worker.start()
                        # Else it may come to the point with what is left of another case.
                        self.wait_for(cases[:number])
                    self.let_it_happen(case, worker)
                if case.ends_worker:
                    eventually(lambda: not worker.process.running)
                    self.let_worker_be_silent(worker)
        finally:
            worker.process.kill()
            self.let_worker_be_silent(worker)
            connections.close_all()

    def let_worker_sleep(self, cases: list[Case]) -> None:
        """Pause the worker with all of its children, each of which stopped at its point."""
        if not cases:
            return
        for case in cases:
            case.flag.touch()
        spec = {crashpoints.VARIABLE: ";".join(case.spec for case in cases)}
        queues = [case.queue for case in cases]
        times = {**CONF, **SLEEP}
        self.sleeper = Worker(queues, env=spec, conf=times, concurrency=len(cases) + 1)
        try:
            self.sleeper.start()
            for case in cases:
                with self.blamed_on(case):
                    case.flag.unlink()
                    self.stories[case].prepare()
                    eventually(partial(is_stopped, self.met(case, self.sleeper)))
            self.sleeper.freeze(children=True)
            self.let_worker_be_silent(self.sleeper)
            for case in cases:
                self.let_time_pass(case)
        finally:
            connections.close_all()

    def let_it_happen(self, case: Case, worker: Worker) -> None:
        story = self.stories[case]
        case.flag.unlink()
        story.prepare()
        story.provoke(worker, partial(self.await_body, story))
        pid = self.met(case, worker)
        if case.kind == "kill":
            eventually(lambda: not is_alive(pid))
        self.let_time_pass(case)
        if not case.ends_worker:
            assert worker.process.running, worker.process.tail()
            eventually(lambda: self.has_ended(case), 20, why=lambda: self.tell(case))

    def met(self, case: Case, worker: Worker) -> int:
        """Return who came to the point, at the latest with a second message.

        Every worker dispatches for all, and those of other cases die between the commit of
        a turn and its messages.
        """
        with suppress(AssertionError):
            return eventually(partial(whom_it_met, case), TAKEN_ALONG)
        self.let_time_pass(case)
        return eventually(
            partial(whom_it_met, case),
            why=lambda: f"{self.tell(case)}\n{worker.process.tail()}",
        )

    def await_body(self, story: stories.Story) -> None:
        task = story.task().pk
        eventually(
            lambda: self.record.lines("started", task=task), 20, why=lambda: story_of(task)
        )

    # Afterwards

    def let_time_pass(self, case: Case) -> None:
        """Let everything of this case be overdue."""
        rows = self.stories[case].rows
        rows.filter(status=Status.QUEUED).update(sent_at=F("sent_at") - HOUR)
        Announcement.objects.filter(task_id__in=rows.values("pk")).update(
            taken_at=F("taken_at") - HOUR
        )

    def let_worker_be_silent(self, worker: Worker) -> None:
        rows = WorkerRow.objects.filter(hostname=worker.hostname)
        rows.update(last_seen_at=F("last_seen_at") - HOUR)

    def wait_for(self, cases: list[Case]) -> None:
        """Wait until they have ended, but for those that are in trouble anyway."""
        waiting = [case for case in cases if case not in self.trouble]

        def nobody_waits() -> bool:
            waiting[:] = [case for case in waiting if not self.has_ended(case)]
            return not waiting

        try:
            eventually(nobody_waits, 30, every=0.1)
        except AssertionError:
            for case in waiting:
                self.trouble[case] = AssertionError(
                    f"It has not come to {case.end!r}: {self.tell(case)}"
                )

    def has_ended(self, case: Case) -> bool:
        rows = self.stories[case].rows
        return (
            self.statuses(case) == case.end
            and not rows.filter(occupies=True).exists()
            and not Announcement.objects.filter(task_id__in=rows.values("pk")).exists()
        )

    def wake(self) -> None:
        """Let the zombies go on with what they think is still so."""
        for case, victim in self.hung.items():
            with self.blamed_on(case):
                os.kill(victim.pid, signal.SIGCONT)
                victim.join(60)
                # 1 if others have taken its locks, and its connection, meanwhile.
                assert victim.exitcode in {0, 1}, case.log.read_text()
        if self.sleeper is not None:
            for process in self.sleeper.children():
                process.resume()
            self.sleeper.thaw()
            eventually(self.sleeper.ready, why=self.sleeper.process.tail)

    def statuses(self, case: Case) -> str:
        found = Counter(self.stories[case].rows.values_list("status", flat=True))
        return " ".join(f"{found[status]} {status}" for status in Status if found[status])

    def messages(self, case: Case) -> int:
        return self.broker.messages(case.queue)

    def tell(self, case: Case) -> str:
        return "\n".join(
            story_of(pk) for pk in self.stories[case].rows.values_list("pk", flat=True)
        )

    def look_at(self, case: Case) -> None:
        """Fail unless everything is as the case says."""
        if case in self.trouble:
            raise self.trouble[case]
        assert case.flag.read_text(), "its point was never reached"
        assert self.has_ended(case), f"not {case.end!r}: {self.tell(case)}"
        rows = self.stories[case].rows
        for column, value in case.each.items():
            assert {*rows.values_list(column, flat=True)} <= {value}, self.tell(case)
        began = self.record.starts()
        tasks = set(rows.values_list("pk", flat=True))
        twice = [one for one, times in began.items() if one[0] in tasks and times > 1]
        assert not twice, f"these attempts began more than once: {twice}"
        self.stories[case].check(self.record)
        self.good.add(case)


def whom_it_met(case: Case) -> int:
    """Return the pid of the process that came to the point; 0 when none has."""
    return int((case.flag.exists() and case.flag.read_text()) or 0)


def is_stopped(pid: int) -> bool:
    """Return whether a process hangs."""
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED
