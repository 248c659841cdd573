"""``explain``: each reason why a task is not running, and what it costs to find it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import taskcontrol
from taskcontrol import standing
from taskcontrol.exceptions import LockTaken, TaskNotFound
from taskcontrol.models import (
    DispatcherState,
    Lock,
    QueueState,
    TaskEvent,
    TaskLog,
    WaitInterval,
)
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests.factories import (
    make_batch,
    make_task,
    make_type,
    make_user,
    make_worker,
    seconds_ago,
)

pytestmark = pytest.mark.django_db

#: More statements than this for one task would be too many for a page.
MOST_STATEMENTS = 12


def codes(task) -> list[str]:
    return [reason.code for reason in taskcontrol.explain(task)]


def reason(task, code: str):
    (found,) = [one for one in taskcontrol.explain(task) if one.code == code]
    return found


def running(**columns) -> TaskLog:
    return make_task(Status.STARTED, **columns)


# A task that waits


def test_a_free_task_is_taken_by_the_next_pass():
    make_worker()

    assert codes(make_task()) == ["next_pass"]


def test_the_row_is_read_anew_so_that_a_stale_one_tells_no_tales():
    stale = make_task()
    TaskLog.objects.filter(pk=stale.pk).update(at_front=False)
    taskcontrol.cancel(stale.pk)

    assert codes(stale) == ["canceled"]


def test_a_task_is_found_by_its_name():
    assert codes(make_task(Status.FINISHED).name) == ["finished"]


def test_a_task_that_does_not_exist_is_said_to_be_missing():
    gone = make_task()
    TaskLog.objects.filter(pk=gone.pk).delete()

    with pytest.raises(TaskNotFound):
        taskcontrol.explain("4711")
    with pytest.raises(TaskNotFound):
        taskcontrol.explain(gone)


def test_a_suspended_dispatcher_is_named_with_who_when_and_why():
    make_worker()
    ann = make_user("ann", "control_dispatcher")
    taskcontrol.toggle_dispatcher(enable=False, user=ann, reason="deploy")

    text = reason(make_task(), "suspended").text

    assert "by ann (deploy)" in text
    assert "is suspended since 20" in text


def test_a_dispatcher_suspended_from_a_shell_was_suspended_by_the_system():
    taskcontrol.toggle_dispatcher(enable=False)

    assert "by the system. Nothing" in reason(make_task(), "suspended").text


def test_a_person_who_was_deleted_is_named_by_number():
    taskcontrol.toggle_dispatcher(enable=False)
    DispatcherState.objects.update(suspended_by=4711)

    assert "by user 4711 (deleted)" in reason(make_task(), "suspended").text


def test_a_paused_type_says_until_when():
    make_worker()
    until = timezone.now() + timedelta(hours=1)
    make_type(paused_at=seconds_ago(5), paused_until=until, paused_reason="too loud")

    found = reason(make_task(), "type_paused")

    assert found.until == until
    assert "tests.tasks.nothing is paused since" in found.text
    assert "(too loud)" in found.text


def test_a_paused_queue_says_that_it_must_be_resumed():
    make_worker()
    QueueState.objects.create(name="default", paused_at=seconds_ago(5))

    found = reason(make_task(), "queue_paused")

    assert found.until is None
    assert "until it is resumed" in found.text


def test_a_pause_that_is_over_is_no_reason():
    make_worker()
    make_type(paused_at=seconds_ago(9), paused_until=seconds_ago(1))

    assert codes(make_task()) == ["next_pass"]


def test_a_task_for_later_says_when():
    make_worker()
    run_at = timezone.now() + timedelta(hours=1)
    task = make_task(run_at=run_at)

    assert codes(task) == ["not_before"]
    assert reason(task, "not_before").until == run_at


def test_a_task_whose_time_has_come_is_taken_by_the_next_pass():
    make_worker()
    task = make_task(run_at=seconds_ago(1), ready_lane=None)

    assert codes(task) == ["next_pass"]


def test_a_task_waits_for_its_own_earlier_body():
    worker = make_worker(hostname="one@here")
    task = make_task(occupies=True, attempt=1, worker=worker, pid=4711)

    found = taskcontrol.explain(task)[0]

    assert found.code == "earlier_body"
    assert found.holders == (task.pk,)
    assert "on one@here in process 4711" in found.text


@pytest.mark.databases
def test_a_full_type_names_the_tasks_that_hold_its_places_longest_running_first():
    worker = make_worker(pool_size=9)
    make_type(concurrency_limit=3)
    young = running(worker=worker, started_at=seconds_ago(1))
    old = running(worker=worker, started_at=seconds_ago(60))
    stopping = make_task(
        Status.CANCELED, occupies=True, worker=worker, started_at=seconds_ago(30)
    )

    found = reason(make_task(), "limit")

    assert found.holders == (old.pk, stopping.pk, young.pk)
    assert found.text == (
        f"3 of 3 places of its type are taken, by tasks {old.pk}, {stopping.pk} (stopping) "
        f"and {young.pk}."
    )


@pytest.mark.databases
def test_busy_slots_name_the_tasks_that_hold_them():
    worker = make_worker(["default"], pool_size=2)
    first = running(worker=worker, started_at=seconds_ago(60))
    second = running(worker=worker, method="tests.tasks.add")

    found = reason(make_task(), "slots")

    assert found.holders == (first.pk, second.pk)
    assert "All 2 slots of the workers for the queue 'default' are taken" in found.text


def test_the_only_slot_is_spoken_of_in_the_singular():
    worker = make_worker(["default"], pool_size=1)
    holder = running(worker=worker)

    text = reason(make_task(), "slots").text

    assert text == (
        "The only slot of the workers for the queue 'default' is taken, by task "
        f"{holder.pk}."
    )


def test_a_sent_task_of_another_queue_of_the_same_worker_holds_a_slot_too():
    make_worker(["default", "short"], pool_size=1)
    sent = make_task(Status.QUEUED, queue="short")

    assert reason(make_task(), "slots").holders == (sent.pk,)


def test_a_full_worker_of_another_queue_is_no_reason():
    full = make_worker(["long"], pool_size=1)
    make_worker(["default"], pool_size=1)
    running(worker=full, queue="long")

    assert codes(make_task()) == ["next_pass"]


def test_a_queue_without_a_live_worker_says_how_to_start_one():
    make_worker(["default"])
    make_worker(["long"], last_seen_at=seconds_ago(60))

    found = reason(make_task(queue="long"), "no_worker")

    assert "manage.py taskcontrol worker --queue long" in found.text


def test_a_broker_that_takes_nothing_is_named():
    make_worker()
    dispatcher_state()
    DispatcherState.objects.update(broker_error="Connection refused")

    assert "Connection refused" in reason(make_task(), "broker").text


def test_a_dispatcher_that_stopped_making_passes_is_named():
    make_worker()
    dispatcher_state()
    DispatcherState.objects.update(last_pass_at=seconds_ago(120))

    assert "was 2 min ago" in reason(make_task(), "no_dispatcher").text


@pytest.mark.parametrize(
    ("method", "why"),
    [
        ("tests.tasks.not_there", "Unknown method"),
        ("tests.tasks.STARTED", "it is a str"),
        ("os.getcwd", "may not run"),
    ],
)
def test_a_method_that_cannot_run_here_says_why(method, why):
    make_worker()

    found = reason(make_task(method=method), "method")

    assert why in found.text
    assert "As seen from this process" in found.text


# The line


@pytest.mark.databases
def test_the_tasks_ahead_in_the_same_type_are_counted():
    make_worker()
    front = make_task(at_front=True)
    first, second = make_task(), make_task()

    assert reason(second, "ahead_in_type").text == ("2 tasks of its own type go first.")
    assert reason(first, "ahead_in_type").text == "1 task of its own type goes first."
    assert "ahead_in_type" not in codes(front)


@pytest.mark.databases
def test_members_of_a_batch_stand_in_the_order_of_the_batch():
    make_worker()
    last, first = (
        make_task(position=5, batch_id="b", batch_order=order) for order in (7, 3)
    )

    assert "1 task" in reason(last, "ahead_in_type").text
    assert codes(first) == ["next_pass"]


@pytest.mark.databases
def test_tasks_of_more_urgent_types_in_the_same_queue_are_counted_apart():
    make_worker()
    make_type("tests.tasks.add", priority=5)
    task = make_task()
    for queue in ("default", "default", "long"):
        make_task(method="tests.tasks.add", queue=queue)

    assert codes(task) == ["ahead_in_queue"]
    assert reason(task, "ahead_in_queue").text == (
        "2 tasks of other types in its queue go first."
    )


def test_an_own_priority_beats_that_of_the_type():
    make_worker()
    make_type("tests.tasks.add", priority=5)
    make_task(method="tests.tasks.add")

    assert codes(make_task(priority=9)) == ["next_pass"]


def test_tasks_of_a_full_or_paused_type_are_not_ahead():
    worker = make_worker(pool_size=9)
    make_type("tests.tasks.add", concurrency_limit=1)
    make_type("tests.tasks.fail", paused_at=seconds_ago(1))
    running(method="tests.tasks.add", worker=worker)
    make_task(method="tests.tasks.add")
    make_task(method="tests.tasks.fail")

    assert codes(make_task()) == ["next_pass"]


@pytest.mark.databases
def test_a_long_line_is_counted_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(standing, "MOST", 4)
    make_worker()
    make_type("tests.tasks.add", priority=5)
    tasks = [make_task() for _ in range(7)]
    for _ in range(6):
        make_task(method="tests.tasks.add")

    assert reason(tasks[4], "ahead_in_type").text == "4 tasks of its own type go first."
    assert reason(tasks[6], "ahead_in_type").text == "4+ tasks of its own type go first."
    assert reason(tasks[0], "ahead_in_queue").text.startswith("4+ tasks of other types")


@pytest.mark.databases
def test_the_cost_does_not_grow_with_the_line():
    worker = make_worker(["default"], pool_size=1)
    running(worker=worker)
    make_type(concurrency_limit=1)
    dispatcher_state()

    def statements() -> int:
        task = make_task()
        with CaptureQueriesContext(connection) as seen:
            taskcontrol.explain(task)
        return len(seen)

    one = statements()
    for number in range(20):
        make_task(method="tests.tasks.add", priority=number)

    assert statements() == one <= MOST_STATEMENTS


# Paused, sent, running


def test_a_paused_task_says_by_whom_since_when_and_why():
    task = make_task()
    ann = make_user("ann", "prioritize_tasklog")
    taskcontrol.pause(task, user=ann, reason="wait for the invoice")

    assert codes(task) == ["paused"]
    assert "by ann (wait for the invoice)" in reason(task, "paused").text


@pytest.mark.parametrize("status", [Status.PENDING, Status.PAUSED])
def test_a_task_of_a_batch_that_a_failure_holds_back_names_the_failed_one(status):
    make_worker()
    batch = make_batch(on_failure="hold")
    task = make_task(status, batch_id=batch.pk)
    assert "batch_held" not in codes(task)

    failed = make_task(Status.FAILED, batch_id=batch.pk)

    assert reason(task, "batch_held").text == (
        f"Its batch is held back, since task {failed.pk} failed; "
        "resume_batch('b') lets it go on."
    )


def test_a_task_of_a_paused_batch_says_why():
    batch = make_batch()
    task = make_task(batch_id=batch.pk)
    taskcontrol.pause_batch(batch.pk, "month end")

    assert codes(task) == ["paused", "batch_held"]
    assert reason(task, "batch_held").text.startswith("Its batch is paused (month end); ")


def test_a_task_enqueued_as_paused_says_so():
    task = make_task(Status.PAUSED)

    assert "enqueued as paused" in reason(task, "paused").text


def test_a_sent_task_says_since_when_it_waits_for_a_worker():
    make_worker()
    task = make_task(Status.QUEUED)

    assert codes(task) == ["sent"]
    assert "and no worker has claimed it yet" in reason(task, "sent").text


def test_a_task_sent_again_says_how_often():
    make_worker()
    task = make_task(Status.QUEUED, sent_count=2)

    assert "and again 2 times, last at" in reason(task, "sent").text


def test_a_sent_task_says_that_its_queue_has_no_worker():
    make_worker(["long"])

    assert codes(make_task(Status.QUEUED)) == ["sent", "no_worker"]


def test_a_sent_task_names_the_bodies_that_keep_the_workers_busy():
    worker = make_worker(pool_size=1)
    body = running(worker=worker)
    task = make_task(Status.QUEUED)

    assert codes(task) == ["sent", "slots"]
    assert reason(task, "slots").holders == (body.pk,)


def test_a_sent_task_counts_the_slots_as_a_pass_does():
    """What a worker has claimed for its children takes its slots, and nobody else's."""
    full = make_worker(["default"], pool_size=1)
    claimed = [make_task(Status.QUEUED, worker=full) for _ in range(3)]
    task = make_task(Status.QUEUED)
    elsewhere = make_worker(["other"])
    make_task(Status.QUEUED, worker=elsewhere)

    assert codes(task) == ["sent", "slots"]
    assert reason(task, "slots").holders == tuple(row.pk for row in claimed)

    make_worker(["default", "short"], pool_size=1)
    assert codes(task) == ["sent"]


def test_a_task_that_its_worker_claimed_as_it_was_sent_says_so():
    """Neither the broker nor another worker has anything to do with it."""
    worker = make_worker(["default"], pool_size=1, hostname="one@here")
    running(worker=worker)
    DispatcherState.objects.update_or_create(defaults={"broker_error": "It is away."})
    task = make_task(Status.QUEUED, worker=worker)

    assert codes(task) == ["claimed"]
    text = reason(task, "claimed").text
    assert text.startswith("It was claimed by one@here at ")
    assert "waits for one of the children of that worker" in text
    assert "broker" not in text


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"lost_at": seconds_ago(1)}, "worker_gone"),
        ({"left_at": seconds_ago(1)}, "worker_gone"),
        ({"last_seen_at": seconds_ago(15)}, "worker_silent"),
    ],
)
def test_a_claimed_task_says_what_is_wrong_with_its_worker(columns, code):
    task = make_task(Status.QUEUED, worker=make_worker(**columns))

    assert codes(task) == ["claimed", code]


def test_a_claimed_task_whose_worker_was_pruned_is_explained_all_the_same():
    task = make_task(Status.QUEUED, worker_id=4711)

    assert codes(task) == ["claimed", "worker_gone"]
    assert "by worker 4711 at" in reason(task, "claimed").text


def test_a_running_task_says_where_and_how_long():
    worker = make_worker(hostname="one@here")
    task = running(worker=worker, pid=4711, started_at=seconds_ago(90))

    assert codes(task) == ["running"]
    text = reason(task, "running").text
    assert "(1 min 30 s), on one@here in process 4711" in text


def test_a_running_task_whose_worker_is_silent_says_what_will_happen():
    worker = make_worker(last_seen_at=seconds_ago(15))

    text = reason(running(worker=worker), "worker_silent").text

    assert "for 15 s; after 20 s it counts as lost" in text


def test_a_running_task_whose_worker_is_gone_is_to_be_rescued():
    worker = make_worker(lost_at=seconds_ago(1))

    assert codes(running(worker=worker)) == ["running", "worker_gone"]


def test_a_running_task_of_which_no_worker_is_known_is_explained_all_the_same():
    assert taskcontrol.explain(running())[0].text.endswith("s).")


def test_a_running_task_whose_worker_was_pruned_is_explained_all_the_same():
    assert codes(running(worker_id=4711)) == ["running", "worker_gone"]
    assert "on worker 4711" in taskcontrol.explain(running(worker_id=4711))[0].text


# Ended


def test_a_finished_task_says_when_and_how_long_it_took():
    task = make_task(Status.FINISHED, time_taken=timedelta(minutes=2))

    assert codes(task) == ["finished"]
    assert reason(task, "finished").text.endswith("after 2 min.")


def test_a_canceled_task_says_by_whom_and_why():
    task = make_task()
    ann = make_user("ann", "cancel_tasklog")
    taskcontrol.cancel(task, reason="not needed", user=ann)

    assert codes(task) == ["canceled"]
    assert reason(task, "canceled").text.endswith("by ann: not needed.")


def test_a_canceled_body_that_goes_on_is_said_to_be_stopping():
    worker = make_worker(hostname="one@here")
    task = running(worker=worker, pid=4711)
    taskcontrol.cancel(task)

    assert codes(task) == ["canceled", "stopping"]
    assert "on one@here in process 4711; until then" in reason(task, "stopping").text


def test_a_failed_task_says_why_and_when_it_is_retried():
    due = timezone.now() + timedelta(minutes=5)
    task = make_task(
        Status.FAILED,
        error_message="Traceback\nValueError: no such file.",
        retry_at=due,
        retry_count=1,
        max_retries=3,
    )

    found = reason(task, "retry")

    assert codes(task) == ["retry"]
    assert found.until == due
    assert "ValueError: no such file. Retry 2 of 3 is due 20" in found.text


def test_a_retry_that_is_overdue_says_since_when():
    task = make_task(Status.FAILED, retry_at=seconds_ago(9), max_retries=1)

    assert "has been due since" in reason(task, "retry").text


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"max_retries": 0}, "It has no automatic retries."),
        ({"max_retries": 2, "retry_count": 2}, "2 retries of 2 were made."),
        ({"max_retries": 2, "retry_count": 0}, "the failure was declared final"),
    ],
)
def test_a_failed_task_says_why_it_is_not_retried(columns, why):
    task = make_task(Status.FAILED, **columns)

    assert codes(task) == ["failed", "no_retry"]
    assert why in reason(task, "no_retry").text


def test_the_last_pause_counts():
    task = make_task()
    for text in ("first", "second"):
        taskcontrol.pause(task, reason=text)
        taskcontrol.resume(task)
    taskcontrol.pause(task, reason="third")

    assert TaskEvent.objects.filter(task=task.pk, kind=TaskEvent.Kind.PAUSED).count() == 3
    assert "(third)" in reason(task, "paused").text


# When it ends


@pytest.mark.databases
def test_a_full_type_tells_when_its_first_place_should_be_free():
    worker = make_worker(pool_size=9)
    make_type(concurrency_limit=2, usual_seconds=100)
    running(worker=worker, started_at=seconds_ago(500))  # over its time: nobody can tell
    running(worker=worker, started_at=seconds_ago(40))

    found = reason(make_task(), "limit")

    assert found.name == "tests.tasks.nothing"
    assert 55 < (found.expected - timezone.now()).total_seconds() < 61
    assert "; the first should be free in about" in found.text


@pytest.mark.databases
def test_busy_slots_tell_when_the_first_should_be_free_by_what_each_type_takes():
    worker = make_worker(["default"], pool_size=2)
    make_type(usual_seconds=10)
    make_type("tests.tasks.add", usual_seconds=100)
    running(worker=worker, started_at=seconds_ago(50))
    running(worker=worker, method="tests.tasks.add", started_at=seconds_ago(50))

    found = reason(make_task(), "slots")

    assert 45 < (found.expected - timezone.now()).total_seconds() < 51


def test_holders_of_which_nothing_is_known_promise_nothing():
    worker = make_worker(["default"], pool_size=1)
    running(worker=worker)

    found = reason(make_task(), "slots")

    assert found.expected is None
    assert "should be free" not in found.text


def test_a_type_whose_code_no_worker_has_read_yet_runs_one_at_a_time():
    worker = make_worker(pool_size=9)
    make_type(declared=None)
    holder = running(worker=worker)

    found = reason(make_task(), "limit")

    assert found.holders == (holder.pk,)
    assert "until a worker has read its limit in the code, one runs" in found.text


def test_a_task_after_another_tells_when_that_should_be_over_or_is_retried():
    make_worker()
    make_type("tests.tasks.add", usual_seconds=100)
    first = running(method="tests.tasks.add", started_at=seconds_ago(40))
    found = reason(make_task(after=first, ready_lane=None), "after")
    assert 55 < (found.expected - timezone.now()).total_seconds() < 61

    due = timezone.now() + timedelta(hours=1)
    failed = make_task(Status.FAILED, retry_at=due, max_retries=1)
    assert reason(make_task(after=failed, ready_lane=None), "after").until == due


# Locks, force, and where the wait went


@pytest.mark.parametrize("key", ["import", "it's", 'a "b" \\ c'])
def test_a_retry_that_ran_into_a_lock_names_who_still_holds_it(key):
    holder = running(worker=make_worker())
    Lock.objects.create(
        key=key, task=holder, holder="process 7 on here", expires_at=seconds_ago(-60)
    )
    error = f"taskcontrol.exceptions.LockTaken: {LockTaken(key, 'task 1', 1)}"
    task = make_task(
        Status.FAILED, error_message=error, retry_at=seconds_ago(-60), max_retries=1
    )

    found = reason(task, "lock")

    assert found.holders == (holder.pk,)
    assert found.name == key
    assert f"is still held by task {holder.pk}, process 7 on here, since 20" in found.text
    Lock.objects.update(expires_at=seconds_ago(1))
    assert "lock" not in codes(task)


def test_a_body_told_to_stop_says_when_it_is_stopped_by_force(conf):
    conf(CANCEL_GRACE=60)
    worker = make_worker()
    task = make_task(
        Status.CANCELED, occupies=True, worker=worker, cancel_requested_at=seconds_ago(5)
    )

    found = reason(task, "stopping")

    assert 50 < (found.until - timezone.now()).total_seconds() < 58
    assert "It is stopped by force within 5" in found.text
    conf(CANCEL_GRACE=1)
    assert "It is being stopped by force." in reason(task, "stopping").text


def test_a_body_on_a_pool_that_cannot_be_forced_says_so():
    worker = make_worker(pool="threads")
    task = make_task(Status.CANCELED, occupies=True, worker=worker)

    found = reason(task, "stopping")

    assert found.until is None
    assert "It stops where it asks: a threads pool cannot force it." in found.text


@pytest.mark.databases
def test_an_ended_task_says_where_its_wait_went():
    ann = make_user("ann")
    task = make_task(
        Status.FINISHED,
        created_at=seconds_ago(400),
        queued_at=seconds_ago(10),
        started_at=seconds_ago(10),
    )
    WaitInterval.objects.create(
        scope="limit", key=task.method, from_at=seconds_ago(400), to_at=seconds_ago(160)
    )
    WaitInterval.objects.create(
        scope="type",
        key=task.method,
        actor=ann,
        from_at=seconds_ago(160),
        to_at=seconds_ago(70),
    )
    WaitInterval.objects.create(scope="pool", from_at=seconds_ago(70), to_at=None)

    assert codes(task) == ["finished", "waited"]
    assert reason(task, "waited").text == (
        "It waited 6 min 30 s: limit of its type 4 min, type paused by ann 1 min 30 s, "
        "no free slot 1 min."
    )


def test_the_command_says_it_too(capsys):
    task = make_task(Status.FINISHED, created_at=seconds_ago(100))

    call_command("taskcontrol", "explain", task.name)

    assert "It waited 1 min 38 s: in line 1 min 37 s, promoted," in capsys.readouterr().out
