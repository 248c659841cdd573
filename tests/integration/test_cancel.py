"""P6: cancel is certain, wherever the task is, and it hits nobody else."""

from __future__ import annotations

import pytest
from celery import current_app

import taskcontrol
from taskcontrol.forcing import may_be_forced
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests import tasks
from tests.factories import make_type
from tests.integration.watching import ended, free, has_status, is_alive, kinds, row
from tests.servers.worker import QUICK
from tests.waiting import always, eventually, race

pytestmark = pytest.mark.integration

#: The keeper looks every second; then the grace; then what a loaded machine needs.
GRACE = QUICK["CANCEL_GRACE"] + 4


def running(record, method, **arguments):
    """Return a task whose body runs, and the process that runs it."""
    task = taskcontrol.enqueue(method, arguments=arguments)
    line = eventually(lambda: record.lines("started", task=task.pk), 20)[0]
    return task, line["pid"]


def fill_slots(record, count=2):
    """Occupy every slot of the worker."""
    return [running(record, tasks.sleep, seconds=120)[0] for _ in range(count)]


def test_a_pending_task_is_canceled_at_once_and_never_runs_p6(worker, record):
    taskcontrol.toggle_dispatcher(enable=False)
    task = taskcontrol.enqueue(tasks.recorded)

    assert taskcontrol.cancel(task, reason="too late") is True

    taskcontrol.toggle_dispatcher(enable=True)
    ended(taskcontrol.enqueue(tasks.nothing))
    now = row(task)
    assert (now.status, now.attempt, now.ended_reason) == (Status.CANCELED, 0, "too late")
    assert record.lines() == []


def test_a_paused_task_is_canceled_at_once_and_never_runs_p6(worker, record):
    task = taskcontrol.enqueue(tasks.recorded, paused=True)

    assert taskcontrol.cancel(task) is True

    ended(taskcontrol.enqueue(tasks.nothing))
    assert row(task).status == Status.CANCELED
    assert record.lines() == []


def test_a_queued_task_is_canceled_at_once_and_its_message_runs_nothing_p6(worker, record):
    worker.freeze()
    task = taskcontrol.enqueue(tasks.recorded)
    assert taskcontrol.dispatch.dispatch_pending() == 1
    assert row(task).status == Status.QUEUED

    assert taskcontrol.cancel(task) is True
    worker.thaw()

    ended(taskcontrol.enqueue(tasks.nothing))
    now = row(task)
    assert (now.status, now.occupies) == (Status.CANCELED, False)
    assert record.lines() == []


def test_a_failed_task_whose_retry_is_due_is_canceled_for_good_p6(worker):
    task = taskcontrol.enqueue(tasks.fail, max_retries=3, retry_delay=60)
    has_status(task, Status.FAILED)

    assert taskcontrol.cancel(task) is True
    assert taskcontrol.cancel(task) is False

    now = row(task)
    assert (now.status, now.retry_at) == (Status.CANCELED, None)


def test_an_ended_task_is_not_canceled_p6(worker):
    task = ended(taskcontrol.enqueue(tasks.nothing))

    assert taskcontrol.cancel(task) is False

    assert row(task).status == Status.FINISHED


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        (tasks.sleep, {"seconds": 60}),
        (tasks.busy, {"seconds": 60}),
        (tasks.clean_up_when_stopped, {"seconds": 60}),
        (tasks.catch_exception, {"seconds": 60}),
        (tasks.wait_for_lock, {}),
        (tasks.sleep_in_c, {"seconds": 60}),
    ],
    ids=["sleep", "busy", "finally", "except_exception", "lock", "sleep_in_c"],
)
def test_ordinary_code_stops_and_its_process_goes_on_p6(worker, record, method, arguments):
    task, pid = running(record, method, **arguments)

    assert taskcontrol.cancel(task) is True

    assert row(task).status == Status.CANCELED
    free(task, GRACE)
    assert is_alive(pid), "a body that listens costs no process"
    assert kinds(task) == ["canceled", "told", "gone"]
    assert ended(taskcontrol.enqueue(tasks.add, left=1)).result == 1


STUBBORN = [
    (tasks.swallow_everything, {"seconds": 60}),
    (tasks.ignore_sigterm, {"seconds": 60}),
    (tasks.ignore_cancel, {"seconds": 60}),
    (tasks.block_in_c, {"hold_interpreter": False}),
    (tasks.block_in_c, {"hold_interpreter": True}),
]


def test_code_that_does_not_listen_is_gone_within_the_grace_p6(start_worker, record):
    start_worker(concurrency=len(STUBBORN) + 1)
    for method in ("swallow_everything", "ignore_sigterm", "ignore_cancel", "block_in_c"):
        make_type(f"tests.tasks.{method}")
    bystander, other_pid = running(record, tasks.sleep, seconds=60)
    bodies = [running(record, method, **arguments) for method, arguments in STUBBORN]

    for task, _ in bodies:
        assert taskcontrol.cancel(task) is True

    states = {(row(task).status, row(task).occupies) for task, _ in bodies}
    assert states == {(Status.CANCELED, True)}
    for task, pid in bodies:
        assert free(task, GRACE).status == Status.CANCELED
        assert not is_alive(pid)
        assert kinds(task) == ["canceled", "told", "forced", "gone"]
    assert row(bystander).status == Status.STARTED
    assert is_alive(other_pid)
    for _ in range(4):
        assert ended(taskcontrol.enqueue(tasks.add, left=1)).result == 1


def test_processes_that_a_body_started_go_with_it_p6(worker, record):
    task, pid = running(record, tasks.start_a_process_and_swallow, seconds=60)
    grandchild = record.lines("started a process")[0]["child"]

    taskcontrol.cancel(task)

    free(task, GRACE)
    assert not is_alive(pid)
    eventually(lambda: not is_alive(grandchild))


def test_the_next_task_of_the_same_child_is_not_hit_p6(one_slot, record):
    for _ in range(6):
        short = taskcontrol.enqueue(tasks.recorded, seconds=0.15)
        innocent = taskcontrol.enqueue(tasks.recorded, seconds=0.3)
        eventually(lambda task=short: record.lines("started", task=task.pk), every=0.005)

        taskcontrol.cancel(short)

        now = ended(innocent)
        assert (now.status, now.attempt, now.error_message) == (Status.FINISHED, 1, "")
        assert free(short).status in {Status.CANCELED, Status.FINISHED}


def test_cancel_against_finish_has_one_answer_p6(worker, record):
    answers = []
    for _ in range(12):
        task = taskcontrol.enqueue(tasks.recorded, seconds=0.03)
        eventually(lambda task=task: record.lines("started", task=task.pk), every=0.001)
        won = taskcontrol.cancel(task)
        now = ended(task)
        answers.append((won, now.status))

    assert set(answers) <= {(True, Status.CANCELED), (False, Status.FINISHED)}


def test_many_cancel_at_once_and_one_did_it_p6(worker, record):
    task, _ = running(record, tasks.sleep, seconds=60)

    answers = race(*[lambda: taskcontrol.cancel(task)] * 6)

    assert sorted(answers) == [False] * 5 + [True]
    assert kinds(task).count("canceled") == 1
    free(task, GRACE)


def test_all_slots_are_stopped_and_used_again_p6(worker, record):
    for task in fill_slots(record):
        taskcontrol.cancel(task)

    assert ended(taskcontrol.enqueue(tasks.add, left=1), GRACE).result == 1


def test_a_person_ends_the_grace_of_a_body_that_does_not_stop_p6(start_worker, record):
    start_worker(conf={"CANCEL_GRACE": 600})
    task, pid = running(record, tasks.swallow_everything, seconds=60)
    other, _ = running(record, tasks.sleep, seconds=60)
    taskcontrol.cancel(task)
    eventually(lambda: may_be_forced(row(task)), 5)
    assert is_alive(pid)

    taskcontrol.force_stop(task)

    free(task, 10)
    assert not is_alive(pid)
    assert kinds(task) == ["canceled", "told", "forcing", "forced", "gone"]
    assert row(other).status == Status.STARTED


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_body_that_asks_stops_on_other_pools_p6(start_worker, record, pool):
    start_worker(pool=pool, concurrency=2 if pool == "threads" else 1)
    task, _ = running(record, tasks.cooperate, seconds=60)

    taskcontrol.cancel(task)

    free(task, GRACE)
    assert row(task).status == Status.CANCELED
    assert ended(taskcontrol.enqueue(tasks.add, left=1)).result == 1


def test_a_body_that_does_not_ask_is_not_said_to_be_forced_on_threads_p6(
    start_worker, record
):
    start_worker(pool="threads", conf={"CANCEL_GRACE": 0.2})
    task, _ = running(record, tasks.swallow_everything, seconds=2.5)

    taskcontrol.cancel(task)

    always(lambda: row(task).occupies, 1.5)
    free(task)
    assert kinds(task) == ["canceled", "gone"]


def test_a_running_body_is_stopped_while_the_broker_is_down_p6(worker, broker, record):
    listening, _ = running(record, tasks.sleep, seconds=60)
    stubborn, pid = running(record, tasks.swallow_everything, seconds=60)
    broker.stop()

    taskcontrol.cancel(listening)
    taskcontrol.cancel(stubborn)

    free(listening, GRACE + 3)
    free(stubborn, GRACE + 3)
    assert not is_alive(pid)
    broker.start()
    assert ended(taskcontrol.enqueue(tasks.add, left=1), 30).result == 1


def test_a_task_revoked_in_celery_is_canceled_p6(start_worker, record):
    worker = start_worker(conf={"DECK": False})  # else Celery never hears of it
    task = taskcontrol.enqueue(tasks.recorded, paused=True)
    message = f"{dispatcher_state().site}-{task.pk}-1"
    current_app.control.revoke(message)
    asked = current_app.control.inspect([worker.hostname])
    eventually(lambda: message in (asked.revoked() or {}).get(worker.hostname, ()))

    taskcontrol.resume(task)

    now = ended(task)
    assert (now.status, now.ended_reason) == (Status.CANCELED, "revoked through Celery")
    assert record.lines() == []
