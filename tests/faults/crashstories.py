"""What stands in the tables before a crash, and what the process does that dies of it.

Each story has a queue of its own: its tasks are those in it, whoever works on them.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from datetime import timedelta
from typing import Any, ClassVar

from celery import current_app
from django.db import transaction

import taskcontrol
from taskcontrol import dialect, enqueueing, lifecycle
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.exceptions import BrokerUnavailable
from taskcontrol.firing import fire_due_schedules
from taskcontrol.models import Schedule, TaskBatch, TaskLog, Worker
from taskcontrol.rescue import rescue_lost_tasks
from taskcontrol.resending import resend_unclaimed
from taskcontrol.retries import retry_failed_tasks
from taskcontrol.settling import settle_batches
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_batch, make_task, make_worker, seconds_ago
from tests.faults import crashbodies
from tests.models import Counter
from tests.waiting import eventually

METHOD = "tests.tasks.recorded"
LONG = 3600
#: No time of its own passes while a test runs.
SELDOM = 10 * 365 * 86400


class Story:
    """One process does one thing, and does not come to its end."""

    #: Whether there are free slots for its queue while it lasts, though no worker.
    served: ClassVar[bool] = False

    def __init__(self, queue: str) -> None:
        self.queue = queue

    @property
    def rows(self) -> Any:
        """Its tasks."""
        return TaskLog.objects.filter(queue=self.queue)

    def task(self) -> TaskLog:
        """Its only task."""
        return self.rows.get()

    def make(self, status: Status, count: int = 3, **columns: Any) -> None:
        """Store tasks of its own."""
        for _ in range(count):
            make_task(status, **{"method": METHOD, "queue": self.queue, **columns})

    def prepare(self) -> None:
        """Store what it begins with."""

    def act(self) -> None:
        """Do it; called in the victim."""
        raise NotImplementedError

    def check(self, record: Any) -> None:
        """Look in the end at what its tasks alone do not show."""

    def provoke(self, worker: Any, started: Any) -> None:
        """Do to the worker or the task what leads to the point; ``started`` waits for a body."""

    def recover(self) -> None:
        """Let the sweep of another process come, as in the next second."""


class Enqueue(Story):
    """Enqueue one task."""

    def act(self) -> None:
        taskcontrol.enqueue(tasks.recorded, queue=self.queue)


class EnqueueInTransaction(Story):
    """Enqueue one task in a transaction of the caller's."""

    def act(self) -> None:
        with transaction.atomic():
            taskcontrol.enqueue(tasks.recorded, queue=self.queue)


class Bulk(Story):
    """Enqueue three tasks as a batch, one INSERT for each."""

    def act(self) -> None:
        enqueueing.CHUNK = 1
        taskcontrol.bulk_enqueue(
            [{}] * 3, self.queue, method=tasks.recorded, queue=self.queue
        )

    def check(self, record: Any) -> None:
        total = TaskBatch.objects.filter(pk=self.queue).values_list("total", flat=True)
        assert sum(total) == self.rows.count()


class Dispatch(Story):
    """Make a dispatch pass over three tasks."""

    served = True

    def prepare(self) -> None:
        for _ in range(3):
            taskcontrol.enqueue(tasks.recorded, queue=self.queue)

    def act(self) -> None:
        open_a_connection()
        dispatch_pending()


class DispatchWithoutBroker(Dispatch):
    """The same while the broker is away."""

    def act(self) -> None:
        current_app.conf.broker_url = "redis://127.0.0.1:1/0"
        with suppress(BrokerUnavailable):
            dispatch_pending()


class RetrySweep(Story):
    """Retry three tasks whose time has come."""

    def prepare(self) -> None:
        self.make(Status.FAILED, retry_at=seconds_ago(5), max_retries=2)

    def act(self) -> None:
        retry_failed_tasks()

    def recover(self) -> None:
        retry_failed_tasks()


class Rescue(Story):
    """Rescue three tasks of a worker that fell silent."""

    def prepare(self) -> None:
        silent = make_worker([self.queue], last_seen_at=seconds_ago(LONG))
        self.make(Status.STARTED, worker=silent)

    def act(self) -> None:
        rescue_lost_tasks()

    def recover(self) -> None:
        rescue_lost_tasks()


class Release(Story):
    """Free the places of canceled tasks of such a worker."""

    def prepare(self) -> None:
        silent = make_worker([self.queue], last_seen_at=seconds_ago(LONG))
        self.make(Status.CANCELED, worker=silent, occupies=True)

    def act(self) -> None:
        rescue_lost_tasks()

    def recover(self) -> None:
        rescue_lost_tasks()


class Resend(Story):
    """Send three messages again that nobody claimed."""

    served = True

    def prepare(self) -> None:
        self.make(Status.QUEUED, sent_at=seconds_ago(LONG))

    def act(self) -> None:
        open_a_connection()
        resend_unclaimed()


class Cancel(Story):
    """Cancel a task that waits."""

    def prepare(self) -> None:
        taskcontrol.enqueue(tasks.recorded, queue=self.queue)

    def act(self) -> None:
        taskcontrol.cancel(self.task())


class Expire(Story):
    """Sweep away a task whose time to start is over."""

    def prepare(self) -> None:
        self.make(Status.PENDING, 1, expires_at=seconds_ago(5))

    def act(self) -> None:
        dispatch_pending()


class Retry(Story):
    """Retry a failed task by hand."""

    def prepare(self) -> None:
        self.make(Status.FAILED, 1)

    def act(self) -> None:
        taskcontrol.retry(self.task())


class Pause(Story):
    """Pause a task that waits."""

    def prepare(self) -> None:
        taskcontrol.enqueue(tasks.recorded, queue=self.queue)

    def act(self) -> None:
        taskcontrol.pause(self.task())


class Resume(Story):
    """Let a paused task go on."""

    def prepare(self) -> None:
        self.make(Status.PAUSED, 1)

    def act(self) -> None:
        taskcontrol.resume(self.task())


class Fire(Story):
    """Make the task of a schedule whose time has come."""

    def prepare(self) -> None:
        taskcontrol.schedules.create(
            tasks.recorded, name=self.queue, every=SELDOM, queue=self.queue
        )
        at = dialect.now("default") - timedelta(seconds=5)
        Schedule.objects.filter(name=self.queue).update(next_run_at=at)

    def act(self) -> None:
        fire_due_schedules()

    def check(self, record: Any) -> None:
        schedule = Schedule.objects.get(name=self.queue)
        assert (schedule.run_count, schedule.skipped_count) == (1, 0)
        assert schedule.last_task_id == self.task().pk

    def recover(self) -> None:
        fire_due_schedules()


class Settle(Story):
    """End a batch, all of whose tasks have ended, and call back."""

    def prepare(self) -> None:
        callback = {"method": tasks.recorded, "queue": self.queue}
        taskcontrol.create_batch(self.queue, on_completion=callback)
        make_task(Status.FINISHED, batch_id=self.queue)
        TaskBatch.objects.filter(pk=self.queue).update(open_since=seconds_ago(60), total=1)

    def act(self) -> None:
        settle_batches()

    def check(self, record: Any) -> None:
        batch = TaskBatch.objects.get(pk=self.queue)
        assert batch.ended_at is not None
        assert batch.callbacks["completion"]["task"] == self.task().pk

    def recover(self) -> None:
        settle_batches()


class Hold(Story):
    """Hold a batch back, one of whose tasks has failed."""

    def prepare(self) -> None:
        make_batch(self.queue, on_failure=TaskBatch.OnFailure.HOLD, total=3)
        self.make(Status.FAILED, 1, batch_id=self.queue)
        self.make(Status.PENDING, 2, batch_id=self.queue)

    def act(self) -> None:
        settle_batches()

    def recover(self) -> None:
        settle_batches()


class News(Story):
    """Write an end of which a callback is to hear, and call it."""

    def prepare(self) -> None:
        options = {"on_success": "tests.faults.crashbodies.told"}
        self.make(Status.STARTED, 1, heard=True, options=options)

    def act(self) -> None:
        lifecycle.finish(self.task().pk, 1)

    def check(self, record: Any) -> None:
        assert record.lines("told", about=self.task().pk)


class Work(Story):
    """A worker of its own runs a task."""

    method: ClassVar[str] = METHOD
    arguments: dict[str, Any] = {}
    options: ClassVar[dict[str, Any]] = {}

    def prepare(self) -> None:
        taskcontrol.enqueue(
            self.method, arguments=self.arguments, queue=self.queue, **self.options
        )


class ShortWork(Work):
    """A worker gives a short task to its own children."""

    method = "tests.faults.crashbodies.short"


class WorkByHand(Work):
    """A worker gives a task of unknown length to its own children."""


class ShortWorkThatLingers(Work):
    """The body takes longer than those of its type usually do."""

    method = "tests.faults.crashbodies.lingers"


class ManyLeft(Work):
    """The worker is told to leave while its deck is full."""

    method = "tests.faults.crashbodies.naps"

    def prepare(self) -> None:
        for _ in range(40):
            super().prepare()

    def provoke(self, worker: Any, started: Any) -> None:
        eventually(lambda: self.rows.filter(status=Status.FINISHED).exists(), 20)
        worker.process.send(signal.SIGTERM)


class WorkWithRetry(Work):
    """A failure of the database fails a body that may be retried."""

    options: ClassVar[dict[str, Any]] = {"max_retries": 1, "retry_delay": 0}


class WorkThatIsHeard(Work):
    """Somebody listens, so news are written in the same transaction."""

    options: ClassVar[dict[str, Any]] = {"on_success": crashbodies.told}

    def check(self, record: Any) -> None:
        assert record.lines("told", about=self.task().pk)


class FailureThatIsHeard(Work):
    """The same for a failure."""

    method = "tests.faults.crashbodies.fail"
    options: ClassVar[dict[str, Any]] = {"on_failure": crashbodies.told}
    check = WorkThatIsHeard.check


class WorkInOneTransaction(Work):
    """The body's writes and its end are one transaction."""

    method = "tests.faults.crashbodies.count"
    options: ClassVar[dict[str, Any]] = {"atomic": True}

    def prepare(self) -> None:
        Counter.objects.create(name=self.queue)
        self.arguments = {"name": self.queue}
        super().prepare()

    def check(self, record: Any) -> None:
        assert Counter.objects.get(name=self.queue).value == 1


class WorkInOneTransactionWithRetry(WorkInOneTransaction):
    """A failure of the database undoes both; the retry does both."""

    options: ClassVar[dict[str, Any]] = {**WorkInOneTransaction.options, "max_retries": 1}


class WorkFenced(WorkInOneTransaction):
    """A block of the body and its end are one transaction."""

    method = "tests.faults.crashbodies.count_fenced"
    options: ClassVar[dict[str, Any]] = {}


class WorkInSteps(WorkInOneTransaction):
    """A block of the body is committed only while the attempt is its own."""

    method = "tests.faults.crashbodies.count_held"
    options: ClassVar[dict[str, Any]] = {}


class WorkCanceled(Work):
    """The task is canceled while its body runs."""

    method = "tests.tasks.sleep"
    arguments = {"seconds": 60}

    def provoke(self, worker: Any, started: Any) -> None:
        started()
        taskcontrol.cancel(self.task())


class WorkThatKillsItsChild(Work):
    """The body ends its process in the first attempt."""

    method = "tests.tasks.kill_itself_until"
    arguments = {"attempt": 2}


class WorkOverTime(Work):
    """The body stops for nobody at its time limit."""

    method = "tests.faults.crashbodies.stubborn_at_first"
    options: ClassVar[dict[str, Any]] = {"timeout": 1}


class WorkLeft(Work):
    """The worker is shut down at once while the body runs."""

    method = "tests.tasks.slow_at_first"
    arguments = {"seconds": 60}

    def provoke(self, worker: Any, started: Any) -> None:
        started()
        worker.stop_cold()


STORIES = {
    one.__name__: one
    for one in globals().values()
    if isinstance(one, type) and issubclass(one, Story)
}


def open_a_connection() -> None:
    """Have what a crash point of the kind ``broker`` can cut."""
    with current_app.producer_or_acquire() as producer:
        producer.publish({}, routing_key="nobody")


def serve(queue: str) -> Worker:
    """Store a worker with free slots for ``queue``, behind which no process stands."""
    return make_worker([queue], pool_size=10)
