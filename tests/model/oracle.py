"""What ought to become of tasks: the promises in plain Python, one dict of rows and no SQL."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from taskcontrol.status import ACTIVE, TERMINAL, WAITING, Status

#: Times are either still to come or have come; "" is none.
LATER, COME = "later", "come"
#: As the machine sets them, so that few steps reach them.
LOST_LIMIT, RESEND_LIMIT = 1, 2


@dataclass
class Task:
    """What is believed of one row."""

    pk: int
    method: str
    queue: str
    priority: int | None
    #: (at_front, position, batch_order)
    place: tuple[bool, int, int]
    status: Status = Status.PENDING
    attempt: int = 0
    occupies: bool = False
    max_retries: int = 0
    retry_count: int = 0
    lost_count: int = 0
    sent_count: int = 0
    worker: int | None = None
    after: int | None = None
    key: str = ""
    batch: str | None = None
    retry: str = ""
    run_at: str = ""
    expires: str = ""
    #: Whether the present run has begun, and how many runs before it are kept.
    begun: bool = False
    kept: int = 0

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL and not self.retry

    @property
    def over(self) -> bool:
        return self.ended and not self.occupies

    def again(self, *, counted: bool = False) -> None:
        """Become Pending after a run, which is kept if it began."""
        self.kept += self.begun
        self.begun, self.retry, self.sent_count = False, "", 0
        self.retry_count += counted
        self.status = Status.PENDING


@dataclass
class Batch:
    """A batch with a callback for its end."""

    open: bool = False
    called: bool = False
    pruned: list[Status] = field(default_factory=list)


class Oracle:
    """All rows, and what each act does to them."""

    def __init__(self) -> None:
        self.tasks: dict[int, Task] = {}
        self.batches: dict[str, Batch] = {}
        #: Places of the workers that count as alive; the keys of those that do not.
        self.workers: dict[int, int] = {}
        self.gone: set[int] = set()
        self.limits: dict[str, int] = {}
        self.priorities: dict[str, int] = {}
        self.held: set[str] = set()
        self.suspended = False

    # One task

    def enqueue(self, task: Task) -> None:
        self.tasks[task.pk] = task
        if task.batch:
            self.batches[task.batch].open = True

    def holder(self, key: str, but: int = 0) -> Task | None:
        found = (t for t in self.tasks.values() if t.key == key and t.pk != but)
        return next((t for t in found if key and not t.ended), None)

    def claim(self, pk: int, attempt: int, worker: int) -> bool:
        task = self._at(pk, attempt, Status.QUEUED)
        if worker in self.gone:
            # Others get what was sent to a worker that nobody counts on.
            self.unsend(pk, attempt)
            return False
        if task is None or task.expires == COME:
            return False
        task.status, task.worker, task.begun = Status.STARTED, worker, True
        return True

    def _at(self, pk: int, attempt: int, status: Status) -> Task | None:
        task = self.tasks.get(pk)
        same = task and task.attempt == attempt and task.status is status
        return task if same else None

    def end(self, pk: int, attempt: int, to: Status, *, again: bool, gone: bool) -> bool:
        """The end of a body: refused to an attempt of the past, whose place is freed."""
        task = self._at(pk, attempt, Status.STARTED)
        if task is None:
            if gone:
                self.release(pk, attempt)
            return False
        task.status, task.occupies = to, not gone
        task.retry = LATER if again and task.retry_count < task.max_retries else ""
        return True

    def release(self, pk: int, attempt: int) -> None:
        task = self.tasks.get(pk)
        if task and task.attempt == attempt and task.status not in ACTIVE:
            task.occupies = False

    def lose(self, pk: int, attempt: int) -> None:
        task = self._at(pk, attempt, Status.STARTED)
        if task is None:
            self.release(pk, attempt)
            return
        task.occupies = False
        task.lost_count += 1
        if task.lost_count > LOST_LIMIT:
            task.status = Status.FAILED
        else:
            task.again()

    def give_back(self, pk: int, attempt: int) -> None:
        task = self._at(pk, attempt, Status.STARTED)
        if task is None:
            self.release(pk, attempt)
        else:
            task.occupies = False
            task.again()

    def cancel(self, task: Task) -> bool:
        if task.ended:
            return False
        if task.status is Status.QUEUED:
            task.occupies = False
        task.status, task.retry = Status.CANCELED, ""
        return True

    def retry_due(self, task: Task) -> None:
        if task.retry == COME:
            task.again(counted=True)

    def retry_by_hand(self, task: Task, *, first: bool) -> bool:
        """Refused unless it failed or was canceled and nobody has its key."""
        if task.status not in {Status.FAILED, Status.CANCELED}:
            return False
        if self.holder(task.key, but=task.pk):
            return False
        task.again(counted=True)
        task.lost_count, task.run_at, task.expires, task.after = 0, "", "", None
        if first:
            task.place = (True, 0, task.place[2])
        if task.batch:
            self.batches[task.batch].open = True
        return True

    def unsend(self, pk: int, attempt: int) -> None:
        task = self._at(pk, attempt, Status.QUEUED)
        if task:
            task.status, task.occupies = Status.PENDING, False

    def resend(self) -> list[int]:
        """Return the tasks whose overdue messages are sent again."""
        again = []
        if self._busy() < sum(self.workers.values()):
            for task in self._in(Status.QUEUED):
                if task.sent_count >= RESEND_LIMIT:
                    self.unsend(task.pk, task.attempt)
                else:
                    task.sent_count += 1
                    again.append(task.pk)
        return again

    def rescue(self) -> None:
        for task in list(self.tasks.values()):
            if task.occupies and task.worker in self.gone and task.status != Status.QUEUED:
                self.lose(task.pk, task.attempt)

    def delete(self, task: Task) -> bool:
        if not task.over:
            return False
        del self.tasks[task.pk]
        if task.batch:
            self.batches[task.batch].pruned.append(task.status)
        return True

    # A pass

    def turn(self) -> list[int]:
        """Make a pass; return what it promotes, in order."""
        self._let_come()
        chosen = [] if self.suspended else self._choose()
        for task in chosen:
            task.status, task.attempt, task.occupies = Status.QUEUED, task.attempt + 1, True
            task.sent_count, task.worker = 0, None
        self._end_batches()
        return [task.pk for task in chosen]

    def _let_come(self) -> None:
        for task in self._in(Status.FAILED):
            self.retry_due(task)
        for task in self._in(*WAITING):
            if task.expires == COME:
                self.cancel(task)
        for task in self._in(Status.PENDING):
            before = self.tasks.get(task.after or 0)
            if before is None or before.over:
                task.after = None

    def _end_batches(self) -> None:
        for name, batch in self.batches.items():
            if batch.open and all(t.ended for t in self.tasks.values() if t.batch == name):
                batch.open, batch.called = False, True

    def _choose(self) -> list[Task]:
        taken = Counter(t.method for t in self.tasks.values() if t.occupies)
        free = sum(self.workers.values()) - self._busy() - len(self._in(Status.QUEUED))
        chosen: list[Task] = []
        for task in sorted(self._in(Status.PENDING), key=self._order):
            waits = task.occupies or task.after or task.run_at == LATER
            limit = self.limits[task.method]
            full = limit and taken[task.method] >= limit
            if not (waits or full or {task.method, task.queue} & self.held) and free > 0:
                chosen.append(task)
                taken[task.method] += 1
                free -= 1
        return chosen

    def _order(self, task: Task) -> tuple[int, ...]:
        own = self.priorities[task.method] if task.priority is None else task.priority
        at_front, position, batch_order = task.place
        return (not at_front, -own, position, batch_order, task.pk)

    def _busy(self) -> int:
        running = (t for t in self.tasks.values() if t.status != Status.QUEUED)
        return sum(t.occupies and t.worker in self.workers for t in running)

    def _in(self, *statuses: Status) -> list[Task]:
        return [task for task in self.tasks.values() if task.status in statuses]

    def numbers(self, name: str) -> dict[str, int]:
        """Return the numbers of a batch."""
        members = [t for t in self.tasks.values() if t.batch == name]
        pruned = Counter(self.batches[name].pruned)
        ended = Counter(t.status for t in members if t.ended) + pruned
        return {
            "done": sum(ended.values()),
            "failed": ended[Status.FAILED],
            "canceled": ended[Status.CANCELED],
            "total": len(members) + sum(pruned.values()),
        }
