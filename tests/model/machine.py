"""Everything that can be done to tasks, in any order, on real SQL and beside an oracle.

Only three things are no real ones: what a process holds in its memory is a tuple here, the
courier is a list of messages from which anything may be lost, doubled or late, and time
passes by an UPDATE.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

from django.apps import apps
from django.db import connection
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import taskcontrol
from taskcontrol import (
    broker,
    dispatch,
    execution,
    lifecycle,
    pausing,
    pruning,
    rescue,
    resending,
)
from taskcontrol.batches import progress
from taskcontrol.ends import Outcome, write_end
from taskcontrol.exceptions import BrokerUnavailable, Discard, InvalidTransition, KeyTaken
from taskcontrol.keeper import Keeper
from taskcontrol.lookout import Lookout
from taskcontrol.models import QueueState, TaskAttempt, TaskLog, TaskType, Worker
from taskcontrol.status import MOVES, TERMINAL, Status
from tests.factories import make_type, make_worker, seconds_ago
from tests.lockorder import watched
from tests.model.oracle import COME, LATER, LOST_LIMIT, RESEND_LIMIT, Batch, Oracle, Task

METHODS = ("tests.tasks.nothing", "tests.tasks.whoami", "tests.tasks.fail")
QUEUES = ("short", "default")
BATCH = "batch"
#: Bodies that a worker runs at once.
CHILDREN = 2
AN_HOUR = timedelta(hours=1)
LONG_AGO = 400 * 86400.0


class Call(NamedTuple):
    """A call of ``enqueue``."""

    method: str
    queue: str
    priority: int | None
    key: str
    retries: int
    #: One more option.
    what: str
    member: bool


CALL = st.builds(
    Call,
    method=st.sampled_from(METHODS),
    queue=st.sampled_from(QUEUES),
    priority=st.sampled_from([None, None, 3]),
    key=st.sampled_from(["", "", "", "one", "two"]),
    retries=st.sampled_from([0, 1, 2]),
    what=st.sampled_from(["", "", "", "at_front", "paused", "run_at", "expires", "after"]),
    member=st.booleans(),
).filter(lambda call: not (call.key and call.what == "expires"))
#: Which of those that there are.
NUMBER = st.integers(0, 20)
NUMBERS = st.lists(NUMBER, min_size=1, max_size=4)


class Courier(list[tuple[int, int]]):
    """Messages on their way, (task, attempt); may refuse the next ones."""

    #: How many of the next batch it takes before it fails; None: all.
    takes: int | None = None

    def publish(self, messages: Any) -> None:
        for number, message in enumerate(messages):
            if number == self.takes:
                break
            self.append((message.task_id, message.attempt))
        if messages and self.takes is not None:
            raise BrokerUnavailable("the courier is away")


def trouble(*names: str) -> Any:
    """Return a strategy for the methods of these names, without their underscores."""
    return st.sampled_from([name.replace(" ", "_") for name in names])


class Tasks(RuleBasedStateMachine):
    """The rooms on one side, the oracle on the other; they must agree after every step.

    Few rules, each for many troubles: so that the road goes on often enough between them.
    """

    courier: ClassVar = Courier()
    #: How often what happened, over all examples.
    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.courier.clear()
        self.courier.takes = None
        self.oracle = Oracle()
        #: The claimed row of each body that runs, by (task, attempt, worker).
        self.bodies: dict[tuple[int, int, int], TaskLog] = {}
        #: Words about bodies that are gone, which have not come yet.
        self.words: list[tuple[int, int, int]] = []
        #: Rows that a sweep has seen and not yet written to.
        self.looks: list[TaskLog] = []
        #: The workers that can do something, also those that count as lost.
        self.alive: list[int] = []
        self.begun: set[tuple[int, int]] = set()

    def teardown(self) -> None:
        execution.here.worker_id = 0
        for model in apps.get_app_config("taskcontrol").get_models():
            model._base_manager.all()._raw_delete("default")

    # The usual course

    @initialize(
        limits=st.tuples(*[st.sampled_from([0, 0, 1, 2])] * 3),
        priorities=st.tuples(*[st.sampled_from([0, 5])] * 3),
        calls=st.lists(CALL, min_size=3, max_size=6),
    )
    def begin(
        self, limits: tuple[int, ...], priorities: tuple[int, ...], calls: list[Call]
    ) -> None:
        dispatch.can_dispatch_now()
        for queue in QUEUES:
            QueueState.objects.create(name=queue)
        for method, limit, priority in zip(METHODS, limits, priorities, strict=True):
            make_type(method, concurrency_limit=limit, priority=priority)
            self.oracle.limits[method] = limit
            self.oracle.priorities[method] = priority
        taskcontrol.create_batch(BATCH, on_completion=METHODS[0])
        self.oracle.batches[BATCH] = Batch()
        self._a_worker_boots(CHILDREN)
        for number, call in enumerate(calls):
            self._enqueue(call, number)

    @rule(calls=st.lists(CALL, min_size=1, max_size=2), numbers=NUMBERS)
    def the_road_goes_on(self, calls: list[Call], numbers: list[int]) -> None:
        """Nothing is held back any more, and what a pass sends arrives, or some of it."""
        for number, call in zip(numbers, calls, strict=False):
            self._enqueue(call, number)
        if not self.alive:
            self._a_worker_boots(CHILDREN)
        if self.oracle.suspended:
            self._suspend_or_resume(0)
        for what in sorted(self.oracle.held):
            self._hold_or_let_go([*METHODS, *QUEUES].index(what))
        self._pass(None)
        for number in numbers:
            self._deliver(number)

    road2 = road3 = the_road_goes_on

    @rule(number=NUMBER, how=st.sampled_from(["returns", "fails", "fails for good"]))
    def a_body_ends(self, number: int, how: str) -> None:
        if self.bodies:
            self._end(number, how)
        else:
            self.the_road_goes_on([], [number])

    ends2 = a_body_ends

    def _end(self, number: int, how: str) -> None:
        (pk, attempt, _), row = self._body(number)
        error = {"fails": ValueError("bad"), "fails for good": Discard("enough")}.get(how)
        to = Status.FAILED if error else Status.FINISHED
        wrote = write_end(row, Outcome(error=error))
        self._saw("an end", wrote)
        again = how == "fails"
        assert wrote is self.oracle.end(pk, attempt, to, again=again, gone=True)

    @rule(numbers=NUMBERS)
    def bodies_fail_and_are_retried(self, numbers: list[int]) -> None:
        for number in numbers[: len(self.bodies)]:
            self._end(number, "fails")
        self._time_passes(0)
        self.the_road_goes_on([], numbers)

    # People, messengers, workers: each does one of many things

    @rule(
        what=trouble(
            "cancel",
            "cancel what was seen",
            "retry by hand",
            "retry first",
            "pause or resume",
            "suspend or resume",
            "hold or let go",
            "change a limit",
            "delete",
            "prune",
        ),
        number=NUMBER,
    )
    def somebody_does(self, what: str, number: int) -> None:
        getattr(self, f"_{what}")(number)

    @rule(
        what=trouble(
            "pass",
            "pass that fails",
            "deliver twice",
            "lose a message",
            "unsend",
            "resend",
            "time passes",
            "retry what was seen",
        ),
        number=NUMBER,
    )
    def on_the_way(self, what: str, number: int) -> None:
        getattr(self, f"_{what}")(number)

    @rule(
        what=trouble(
            "a child dies",
            "a body is timed out",
            "a parent hears of it",
            "a worker boots",
            "a worker dies",
            "a worker leaves",
            "a live worker counts as lost",
            "a worker sees that",
            "sweep",
            "a sweep looks",
            "a slow sweep writes",
        ),
        number=NUMBER,
    )
    def in_the_workers(self, what: str, number: int) -> None:
        getattr(self, f"_{what}")(number)

    workers2 = in_the_workers

    def _saw(self, what: str, yes: object) -> None:
        self.seen[what if yes else f"no {what}"] += 1

    def _task(self, number: int) -> Task | None:
        tasks = list(self.oracle.tasks.values())
        return tasks[-1 - number % len(tasks)] if tasks else None

    # Code and people

    def _enqueue(self, call: Call, number: int) -> None:
        before = self._task(number) if call.what == "after" else None
        options: dict[str, Any] = {"batch_id": BATCH} if call.member else {}
        if call.key:
            options |= {"job_id": call.key, "deduplicate": True}
        if call.what in {"run_at", "expires"}:
            options[call.what] = AN_HOUR
        elif call.what:
            options[call.what] = before.pk if before else call.what != "after" or None
        row = taskcontrol.enqueue(
            call.method,
            queue=call.queue,
            priority=call.priority,
            max_retries=call.retries,
            retry_delay=AN_HOUR,
            **options,
        )
        self._saw("new task", row)
        assert (row is None) is (self.oracle.holder(call.key) is not None)
        if row is None:
            self.oracle.batches[BATCH].open |= call.member
            return
        task = self._believed(row)
        task.status = Status.PAUSED if call.what == "paused" else Status.PENDING
        task.key, task.batch = call.key, BATCH if call.member else None
        task.after = before.pk if before and not before.over else None
        task.run_at = LATER if call.what == "run_at" else ""
        task.expires = LATER if call.what == "expires" else ""
        self.oracle.enqueue(task)

    @staticmethod
    def _believed(row: TaskLog) -> Task:
        row.refresh_from_db()
        return Task(
            row.pk,
            row.method,
            row.queue,
            row.priority,
            (row.at_front, row.position, row.batch_order),
            max_retries=row.max_retries,
        )

    def _cancel(self, number: int) -> None:
        if task := self._task(number):
            canceled = taskcontrol.cancel(task.pk)
            self._saw("cancel", canceled)
            assert canceled is self.oracle.cancel(task)

    def _cancel_what_was_seen(self, number: int) -> None:
        """A page of a bulk action, which saw the task in a status of before."""
        task = self._task(number)
        old = list(Status)[number % len(Status)]
        if task and Status.CANCELED in MOVES[old]:
            rows = TaskLog.objects.filter(pk=task.pk)
            canceled = task.status is old and self.oracle.cancel(task)
            assert lifecycle.cancel_all(rows, old) == int(canceled)

    def _retry_by_hand(self, number: int, *, first: bool = False) -> None:
        if task := self._task(number):
            done = False
            with suppress(InvalidTransition, KeyTaken):
                taskcontrol.retry(task.pk, now=first)
                done = True
            self._saw("retry by hand", done)
            assert done is self.oracle.retry_by_hand(task, first=first)

    def _retry_first(self, number: int) -> None:
        self._retry_by_hand(number, first=True)

    def _pause_or_resume(self, number: int) -> None:
        task = self._task(number)
        if task and task.status is Status.PENDING:
            taskcontrol.pause(task.pk)
            task.status = Status.PAUSED
        elif task and task.status is Status.PAUSED:
            taskcontrol.resume(task.pk)
            task.status = Status.PENDING

    def _suspend_or_resume(self, number: int) -> None:
        self.oracle.suspended = not self.oracle.suspended
        taskcontrol.toggle_dispatcher(enable=not self.oracle.suspended)

    def _hold_or_let_go(self, number: int) -> None:
        """Pause a queue or a type, or end that."""
        what = [*METHODS, *QUEUES][number % 5]
        scope: Any = QueueState.objects.filter(name=what).first()
        scope = scope or TaskType.objects.get(method=what)
        if what in self.oracle.held:
            pausing.resume_all(scope)
        else:
            pausing.pause_all(scope)
        self.oracle.held ^= {what}

    def _change_a_limit(self, number: int) -> None:
        method, limit = METHODS[number % 3], number // 3 % 3
        TaskType.objects.filter(method=method).update(concurrency_limit=limit)
        self.oracle.limits[method] = limit

    def _delete(self, number: int) -> None:
        if task := self._task(number):
            assert pruning.delete_tasks([task.pk]) == int(self.oracle.delete(task))

    def _prune(self, number: int) -> None:
        """All ends so far are long ago."""
        ended = TaskLog.objects.filter(status__in=TERMINAL)
        ended.update(ended_at=seconds_ago(LONG_AGO))
        gone = sum(self.oracle.delete(one) for one in list(self.oracle.tasks.values()))
        assert pruning.prune_ended_tasks() == gone

    # The dispatcher, its sweeps and the courier

    def _pass(self, takes: int | None) -> None:
        self.courier.takes = takes
        sent, called = len(self.courier), self._callbacks()
        promoted = self.oracle.turn()
        refused = bool(promoted) and takes is not None
        try:
            assert dispatch.dispatch_pending() == len(promoted)
            assert not refused
        except BrokerUnavailable:
            assert refused
        self.courier.takes = None
        self._saw("promoted", promoted)
        assert [pk for pk, _ in self.courier[sent:]] == promoted[:takes]
        if refused:
            for pk in promoted:
                self.oracle.unsend(pk, self.oracle.tasks[pk].attempt)
        else:
            self._limits_hold({self.oracle.tasks[pk].method for pk in promoted})
        if self._callbacks() > called:
            # The end of a batch has made one task (I10).
            new = TaskLog.objects.exclude(pk__in=self.oracle.tasks)
            self.oracle.enqueue(self._believed(new.get()))
            self._saw("end of a batch", "yes")

    def _pass_that_fails(self, number: int) -> None:
        self._pass(number % 2)

    def _callbacks(self) -> int:
        return sum(batch.called for batch in self.oracle.batches.values())

    @staticmethod
    def _limits_hold(methods: set[str]) -> None:
        """What was just promoted stands within its limit, counted in the rows (I8)."""
        if not methods:
            return
        held = TaskLog.objects.filter(occupies=True)
        places = Counter(held.values_list("method", flat=True))
        for kind in TaskType.objects.filter(method__in=methods, concurrency_limit__gt=0):
            assert places[kind.method] <= kind.concurrency_limit, kind.method

    def _deliver(self, number: int, *, stays: bool = False) -> None:
        """A child with nothing to do takes a message, which may come once more."""
        if not (self.courier and self.alive):
            return
        at = self.alive[number % len(self.alive)]
        if sum(where == at for _, _, where in self.bodies) == CHILDREN:
            return
        place = number % len(self.courier)
        pk, attempt = self.courier[place] if stays else self.courier.pop(place)
        execution.here.worker_id = at
        row = execution.claim(pk, attempt)
        self._saw("claim", row)
        assert (row is not None) is self.oracle.claim(pk, attempt, at)
        if row is not None:
            assert (pk, attempt) not in self.begun, "the body of an attempt began twice"
            self.begun.add((pk, attempt))
            self.bodies[pk, attempt, at] = row

    def _deliver_twice(self, number: int) -> None:
        self._deliver(number, stays=True)
        self._deliver(number)

    def _lose_a_message(self, number: int) -> None:
        if self.courier:
            self.courier.pop(number % len(self.courier))

    def _unsend(self, number: int) -> None:
        """A worker gives a message back that it cannot read; maybe one of the past."""
        if self.courier:
            pk, attempt = self.courier[number % len(self.courier)]
            lifecycle.unsend([(pk, attempt)], detail="spoilt on its way")
            self.oracle.unsend(pk, attempt)

    def _resend(self, number: int) -> None:
        TaskLog.objects.filter(status=Status.QUEUED).update(sent_at=seconds_ago(LONG_AGO))
        sent = len(self.courier)
        again = self.oracle.resend()
        self._saw("resend", again)
        assert resending.resend_unclaimed() == len(again)
        assert sorted(pk for pk, _ in self.courier[sent:]) == sorted(again)

    def _time_passes(self, number: int) -> None:
        what = ("retry", "run_at", "expires")[number % 3]
        column = {"retry": "retry_at", "expires": "expires_at"}.get(what, what)
        rows = TaskLog.objects.filter(**{f"{column}__isnull": False})
        rows.update(**{column: seconds_ago(60)})
        for task in self.oracle.tasks.values():
            setattr(task, what, getattr(task, what) and COME)

    def _retry_what_was_seen(self, number: int) -> None:
        """A sweep that is slow: what it saw due may be so no more."""
        if task := self._task(number):
            before = task.retry_count
            self.oracle.retry_due(task)
            assert lifecycle.retry_due([task.pk]) == task.retry_count - before

    # Bodies and workers

    def _body(self, number: int) -> tuple[tuple[int, int, int], TaskLog]:
        """Take one of the bodies away."""
        key = list(self.bodies)[number % len(self.bodies)]
        return key, self.bodies.pop(key)

    def _a_child_dies(self, number: int) -> None:
        if self.bodies:
            key, _ = self._body(number)
            self.words.append(key)

    def _a_body_is_timed_out(self, number: int) -> None:
        """The parent says so before it kills the child."""
        if self.bodies:
            (pk, attempt, at), _ = self._body(number)
            self._lookout(at).timed_out(pk, attempt)
            self.oracle.end(pk, attempt, Status.FAILED, again=True, gone=False)
            self.words.append((pk, attempt, at))

    def _a_parent_hears_of_it(self, number: int) -> None:
        if self.words:
            pk, attempt, at = self.words.pop(number % len(self.words))
            self._lookout(at).process_lost(pk, attempt, "it died")
            self.oracle.lose(pk, attempt)

    @staticmethod
    def _lookout(worker: int) -> Lookout:
        execution.here.worker_id = worker
        boot: Any = SimpleNamespace(facts={"hostname": "w"})
        return Lookout(boot)

    @staticmethod
    def _keeper(worker: int) -> Keeper:
        execution.here.worker_id = worker
        nobody: Any = None
        return Keeper(nobody)

    def _a_worker_boots(self, number: int) -> None:
        if len(self.alive) < 3:
            size = 1 + number % CHILDREN
            worker = make_worker(QUEUES, size)
            self.alive.append(worker.pk)
            self.oracle.workers[worker.pk] = size

    def _a_worker_dies(self, number: int) -> None:
        if self.alive:
            at = self.alive.pop(number % len(self.alive))
            self._end_bodies(at)
            self._fall_silent(at)

    def _end_bodies(self, at: int) -> list[tuple[int, int, int]]:
        keys = [key for key in self.bodies if key[2] == at]
        for key in keys:
            del self.bodies[key]
        return keys

    def _fall_silent(self, at: int) -> None:
        Worker.objects.filter(pk=at, lost_at=None).update(
            last_seen_at=seconds_ago(LONG_AGO)
        )
        self.oracle.workers.pop(at, None)

    def _a_live_worker_counts_as_lost(self, number: int) -> None:
        if self.alive:
            self._fall_silent(self.alive[number % len(self.alive)])
            self._sweep(number)

    def _a_worker_sees_that(self, number: int) -> None:
        """It kills its children and goes on under a new row."""
        for at in [at for at in self.alive if at in self.oracle.gone][:1]:
            self.alive.remove(at)
            self.words += self._end_bodies(at)
            self._a_worker_boots(number)

    def _a_worker_leaves(self, number: int) -> None:
        """In order: its pool has ended, and what it still holds is given back."""
        if not self.alive:
            return
        at = self.alive.pop(number % len(self.alive))
        self._end_bodies(at)
        self._keeper(at).say_goodbye()
        self.oracle.workers.pop(at, None)
        self.oracle.gone.add(at)
        self._for_those_held_by({at}, self.oracle.give_back)

    def _sweep(self, number: int) -> None:
        known = set(Worker.objects.values_list("pk", flat=True))
        self.oracle.gone |= known - self.oracle.workers.keys()
        self._for_those_held_by(self.oracle.gone, self.oracle.lose)
        rescue.rescue_lost_tasks()

    def _for_those_held_by(
        self, workers: set[int], act: Callable[[int, int], None]
    ) -> None:
        for task in self.oracle.tasks.values():
            held = task.occupies and task.status is not Status.QUEUED
            if held and task.worker in workers:
                self._saw("lost or given back", task.status is Status.STARTED)
                act(task.pk, task.attempt)

    def _a_sweep_looks(self, number: int) -> None:
        """A worker falls silent, and a slow sweep has read what it holds."""
        if self.alive:
            self._fall_silent(self.alive[number % len(self.alive)])
        silent = TaskLog.objects.filter(occupies=True).exclude(status=Status.QUEUED)
        rows = silent.exclude(worker__in=self.oracle.workers)
        self.looks += rows.prefetch_related("worker")

    def _a_slow_sweep_writes(self, number: int) -> None:
        if not self.looks:
            return
        row = self.looks.pop(number % len(self.looks))
        rescue.rescue_from_worker(row)
        task = self.oracle.tasks.get(row.pk)
        same = task and (task.attempt, task.status) == (row.attempt, row.status)
        self._saw("fresh look", same)
        if row.status != Status.STARTED:
            self.oracle.release(row.pk, row.attempt)
        elif same and row.worker.left_at is not None:
            self.oracle.give_back(row.pk, row.attempt)
        elif same:
            self.oracle.lose(row.pk, row.attempt)

    # What holds after every step

    @invariant()
    def the_rows_are_as_the_oracle_says(self) -> None:
        believed = {
            task.pk: (
                task.status,
                task.attempt,
                task.occupies,
                task.retry_count,
                task.lost_count,
                task.batch,
                task.after,
                bool(task.retry),
            )
            for task in self.oracle.tasks.values()
        }
        columns = (
            "attempt",
            "occupies",
            "retry_count",
            "lost_count",
            "batch_id",
            "after_id",
        )
        rows = TaskLog.objects.values_list("pk", "status", *columns, "retry_at")
        assert {pk: (*rest, at is not None) for pk, *rest, at in rows} == believed

    @invariant()
    def each_run_that_was_followed_is_kept_once(self) -> None:
        kept = Counter(TaskAttempt.objects.values_list("task_id", flat=True))
        assert kept == {t.pk: t.kept for t in self.oracle.tasks.values() if t.kept}

    @invariant()
    def bodies_hold_their_places_and_are_alone(self) -> None:
        """Unless their worker counts as lost, which alone may be wrong (I3, I4)."""
        known = {key for key in self.bodies if key[2] in self.oracle.workers}
        held = TaskLog.objects.filter(occupies=True)
        assert known <= set(held.values_list("pk", "attempt", "worker_id"))
        assert len({pk for pk, _, _ in known}) == len(known)

    @invariant()
    def the_numbers_of_the_batch_are_those_of_its_rows(self) -> None:
        if BATCH in self.oracle.batches:
            assert progress(BATCH) == self.oracle.numbers(BATCH)


def let_anything_happen(
    conf: Callable[..., None], monkeypatch: Any, *, examples: int, steps: int
) -> Counter[str]:
    """Do so many steps so many times, beside the oracle; return how often what was seen."""
    # On a busy machine one history takes longer than a worker may usually be silent.
    conf(LOST_LIMIT=LOST_LIMIT, RESEND_LIMIT=RESEND_LIMIT, WORKER_LOST_AFTER=3600)
    monkeypatch.setattr(broker, "publish", Tasks.courier.publish)
    monkeypatch.setattr(broker, "check", lambda: None)
    Tasks.seen.clear()
    bounds = settings(
        max_examples=examples,
        stateful_step_count=steps,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    locks = connection.features.has_select_for_update
    with watched() if locks else nullcontext():
        run_state_machine_as_test(Tasks, settings=bounds)
    return Tasks.seen
