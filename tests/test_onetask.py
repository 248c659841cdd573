"""``doctor ID``: the procedure for one task that seems stuck, step by step."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys

import pytest

from taskcontrol import explanation, obstacles
from taskcontrol.dialect import DatabaseNow
from taskcontrol.doctor import onetask
from taskcontrol.doctor.findings import Finding, Level
from taskcontrol.doctor.onetask import examine_task
from taskcontrol.models import Lock, TaskAttempt, TaskEvent, TaskLog, seconds
from tests.factories import make_task, make_type, make_worker, seconds_ago
from tests.waiting import eventually

pytestmark = pytest.mark.django_db


def told(task, subject) -> Finding:
    (found,) = [one for one in examine_task(task) if one.subject == subject]
    return found


def running(**columns):
    worker = make_worker(hostname="w@here", pid=os.getppid())
    return make_task("Started", worker=worker, timeout=300, **columns)


# Where it stands


@pytest.mark.parametrize(
    ("columns", "level", "advice"),
    [
        ({"status": "Finished"}, Level.OK, ""),
        ({"status": "Failed", "error_message": "x"}, Level.WARN, "retry ID runs it again"),
        ({"status": "Paused"}, Level.WARN, "taskcontrol.resume(task)"),
        ({"status": "Canceled", "occupies": True}, Level.WARN, "killed soon"),
    ],
    ids=lambda value: value.get("status") if isinstance(value, dict) else "",
)
def test_it_begins_with_where_the_task_stands(columns, level, advice):
    first, *_ = sorted(
        examine_task(make_task(**columns)), key=lambda one: -list(Level).index(one.level)
    )

    assert (first.level, first.subject) == (level, columns["status"])
    assert advice in first.advice


def test_that_a_worker_has_claimed_it_for_its_children_is_fine():
    task = make_task("Queued", worker=make_worker(hostname="w@here"))

    found = told(task, "Queued")

    assert (found.level, "claimed by w@here" in found.text) == (Level.OK, True)


@pytest.mark.databases
def test_of_a_waiting_task_it_says_what_the_site_lacks(broker):
    findings = examine_task(make_task("Pending", queue="long"))

    assert findings[0].level is Level.FAIL
    assert "No live worker takes tasks from the queue 'long'" in findings[0].text
    assert {"Dispatcher", "Workers", "Queue long"} <= {one.subject for one in findings}
    assert Level.OK not in {one.level for one in findings[1:]}


# How long


def test_a_run_that_takes_its_usual_time_is_fine():
    make_type(usual_seconds=1)

    assert told(running(started_at=seconds_ago(30)), "Time") == Finding(
        Level.OK, "Time", "30 s of at most 5 min; its type usually takes 1 s"
    )


def test_a_run_that_takes_much_longer_than_usual_is_worth_a_word():
    make_type(usual_seconds=1)
    task = running(started_at=seconds_ago(100))

    time = told(task, "Time")

    assert (time.level, time.text) == (
        Level.WARN,
        "1 min 40 s of at most 5 min; its type usually takes 1 s",
    )
    assert f"manage.py taskcontrol cancel {task.pk}, then retry {task.pk}" in time.advice


def test_a_run_beyond_its_time_limit_is_on_a_pool_that_has_none():
    time = told(running(started_at=seconds_ago(400)), "Time")

    assert (time.level, time.text) == (Level.WARN, "6 min 40 s of at most 5 min")
    assert "threads or solo" in time.advice


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"count": 3000, "total": 9000, "description": "rows"}, "3,000 of 9,000, rows"),
        ({"count": 3}, "3"),
        ({"message": "reading"}, "reading"),
        ({"count": [3], "message": "reading"}, "reading"),
        ({"count": 3, "total": 10**400}, "3"),
    ],
    ids=str,
)
def test_it_says_how_far_the_body_is(said, text):
    assert told(running(progress=said), "Progress").text == text


# Its process


@pytest.fixture
def child():
    """Start a child that waits, or computes."""
    started = []

    def start(code):
        one = subprocess.Popen([sys.executable, "-c", code])
        started.append(one)
        return one

    yield start
    for one in started:
        one.kill()
        one.wait(10)


def process_of(pid):
    worker = make_worker(hostname="w@here", pid=os.getpid())
    task = make_task("Started", worker=worker, pid=pid)
    return told(task, "Process")


def test_a_process_that_waits_is_told_with_what_shows_the_line(child):
    pid = child("import subprocess; subprocess.run(['sleep', '60'])").pid

    found = eventually(lambda: (f := process_of(pid)) and "perhaps for" in f.text and f)

    assert found.level is Level.OK
    assert found.text.startswith(f"{pid} waits (sleeping), perhaps for sleep (")
    assert f"py-spy dump --pid {pid} shows the line" in found.advice


def test_a_process_that_computes_is_told(child):
    pid = child("while True: pass").pid

    assert eventually(lambda: "computes at" in process_of(pid).text, timeout=20)


def test_a_process_that_somebody_froze_is_found(child):
    process = child("import time; time.sleep(60)")
    process.send_signal(signal.SIGSTOP)

    found = eventually(lambda: (f := process_of(process.pid)).level is Level.WARN and f)

    assert f"{process.pid} is frozen, with" in found.text
    assert f"kill -CONT {process.pid}" in found.advice


def test_of_a_process_elsewhere_its_workers_last_word_is_told():
    children = [{"pid": 1, "memory_kb": 5}, {"pid": 4194305, "memory_kb": 2048}]
    worker = make_worker(hostname="w@far", children=children)
    task = make_task("Started", worker=worker, pid=4194305)

    found = told(task, "Process")

    assert found.text == "4194305 of w@far is not to be seen from here; it takes 2 MB"
    assert found.advice == f"On its machine: manage.py taskcontrol doctor {task.pk}"


def test_another_process_with_the_same_number_is_not_taken_for_it():
    worker = make_worker(hostname="w@far", pid=4194305)

    found = told(make_task("Started", worker=worker, pid=os.getpid()), "Process")

    assert "is not to be seen from here" in found.text


# Locks, history


def test_it_names_the_locks_that_the_task_holds_and_was_refused():
    task = running(attempt=2)
    soon = DatabaseNow() + seconds(60)
    Lock.objects.create(key="mine", task=task, attempt=2, expires_at=soon)
    Lock.objects.create(key="dead", task=task, attempt=1, expires_at=soon)
    Lock.objects.create(key="free", task=task, attempt=1, expires_at=seconds_ago(1))
    TaskEvent.objects.create(
        task=task, kind="refused", attempt=2, detail="The lock is held."
    )

    dead, mine = (one for one in examine_task(task) if one.subject == "Lock")

    assert (dead.level, mine.level) == (Level.WARN, Level.OK)
    assert dead.text.startswith("'dead' is held by attempt 1 since")
    assert "its process is gone, and it is free at" in dead.text
    assert mine.text.startswith("'mine' is held by attempt 2 since")
    assert told(task, "Refused").text.startswith("The lock is held. (")


def test_it_tells_what_happened_before():
    task = running(attempt=3, lost_count=2)
    for number, reason in [(1, "out of memory"), (2, "")]:
        TaskAttempt.objects.create(
            task=task, attempt=number, status="Failed", ended_reason=reason
        )

    lost, earlier = (one for one in examine_task(task) if one.subject == "History")

    assert (lost.level, lost.text) == (Level.WARN, "its process was lost 2 times")
    assert earlier.text == "earlier attempts: 2 Failed and 1 Failed (out of memory)"


def test_every_word_of_advice_belongs_to_a_reason():
    source = inspect.getsource(explanation) + inspect.getsource(obstacles)
    for code in {*onetask.FINE, *onetask.BROKEN, *onetask._ADVICE}:
        assert f'"{code}"' in source


def test_it_changes_nothing():
    task = running()
    before = TaskLog.objects.values().get(pk=task.pk)

    examine_task(task)

    assert TaskLog.objects.values().get(pk=task.pk) == before
