"""The verbs of ``manage.py taskcontrol``: what they do, print, and end with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

import taskcontrol
from taskcontrol import deployment
from taskcontrol.beating import beat_was_here
from taskcontrol.models import DispatcherState, TaskEvent, TaskLog
from taskcontrol.status import Status
from taskcontrol.suspension import can_dispatch_now, dispatcher_state
from taskcontrol.verbs import all_verbs
from tests.factories import make_batch, make_task, make_user, make_worker, seconds_ago
from tests.servers.environment import site_environment
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parent.parent
VERBS = {
    "beat",
    "cancel",
    "dispatch",
    "doctor",
    "enqueue",
    "explain",
    "pause",
    "prune",
    "ready-for-deploy",
    "referee",
    "rescue",
    "resume",
    "resume-dispatch",
    "retry",
    "retry-failed",
    "schedules",
    "status",
    "suspend-dispatch",
    "up",
    "web",
    "worker",
}
SERVERS = {"beat", "up", "web", "worker"}


def run(*words: object) -> str:
    """Run a verb and return what it printed."""
    out = StringIO()
    call_command("taskcontrol", *map(str, words), stdout=out)
    return out.getvalue().strip()


def run_badly(*words: object) -> tuple[int, str]:
    """Run a verb that ends with another status than 0; return that and what it printed."""
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("taskcontrol", *map(str, words), stdout=out)
    assert isinstance(ended.value.code, int)
    return ended.value.code, out.getvalue().strip()


def answer(*words: object) -> Any:
    """Run a verb with ``--json`` and return its answer."""
    return json.loads(run(*words, "--json"))


# The help


def test_every_verb_is_there():
    assert set(all_verbs()) == VERBS


@pytest.mark.parametrize("name", sorted(VERBS - SERVERS))
def test_the_help_teaches_with_an_example_and_the_exit_status(name):
    text = all_verbs()[name].__doc__ or ""

    assert text.partition("\n")[0].endswith(".")
    assert f"    manage.py taskcontrol {name}" in text
    assert "Exit status: 0" in text


@pytest.mark.parametrize("name", sorted(VERBS))
def test_the_help_is_printed_without_a_database(name, capsys):
    with pytest.raises(SystemExit) as ended:
        call_command("taskcontrol", name, "--help")

    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"taskcontrol {name}" in shown
    assert (all_verbs()[name].__doc__ or "").partition("\n")[0] in shown


# The database


@pytest.mark.only_on("sqlite")
def test_a_database_without_tables_gives_a_sentence_that_leads_to_doctor(tmp_path):
    url = f"sqlite:///{tmp_path / 'empty.sqlite3'}"

    status, doctor = (process(verb, DATABASE_URL=url) for verb in ("status", "doctor"))

    assert status.returncode == 1
    assert status.stderr == (
        "CommandError: The database: no such table: taskcontrol_tasklog. "
        "`manage.py taskcontrol doctor` says what to do.\n"
    )
    assert doctor.returncode == 2
    assert "-> Run manage.py migrate." in doctor.stdout


# Passes and sweeps


@pytest.mark.django_db
def test_dispatch_says_how_many_were_promoted(broker):
    make_worker()
    task = make_task()

    assert run("dispatch") == "Promoted 1 task."
    task.refresh_from_db()
    assert task.status == Status.QUEUED
    assert answer("dispatch") == {"promoted": 0}


@pytest.mark.django_db
def test_dispatch_says_that_the_dispatcher_is_suspended(broker):
    make_worker()
    make_task()
    taskcontrol.toggle_dispatcher(enable=False)

    assert run("dispatch").startswith("Promoted 0 tasks.\nThe dispatcher is suspended")


@pytest.mark.django_db
def test_dispatch_without_a_broker_says_so_in_a_sentence(broker):
    make_worker()
    task = make_task()
    broker.kill()

    with pytest.raises(CommandError, match="The broker cannot be reached") as failed:
        run("dispatch")

    assert failed.value.returncode == 1
    task.refresh_from_db()
    assert task.status == Status.PENDING


@pytest.mark.django_db
def test_retry_failed_retries_what_is_due():
    task = make_task(Status.FAILED, retry_at=seconds_ago(1), max_retries=1)
    make_task(Status.FAILED)

    assert run("retry-failed") == "Retried 1 task."
    task.refresh_from_db()
    assert task.status == Status.PENDING
    assert answer("retry-failed") == {"retried": 0}


@pytest.mark.django_db
def test_rescue_moves_the_tasks_of_lost_workers():
    gone = make_worker(last_seen_at=seconds_ago(60))
    task = make_task(Status.STARTED, worker=gone)

    assert run("rescue") == "Rescued 1 task."
    task.refresh_from_db()
    assert task.status == Status.PENDING
    assert answer("rescue") == {"rescued": 0}


@pytest.mark.django_db
def test_prune_deletes_what_is_older_than_the_retention(conf):
    conf(RETENTION_DAYS={"Finished": 1, "Failed": 1})
    long_ago = seconds_ago(2 * 86400)
    kept = [
        make_task(Status.FINISHED),
        make_task(Status.CANCELED, ended_at=long_ago),
        make_task(Status.FAILED, ended_at=long_ago, retry_at=long_ago, max_retries=1),
        make_task(Status.FAILED, ended_at=long_ago, occupies=True),
    ]
    make_task(Status.FINISHED, ended_at=long_ago)
    make_task(Status.FINISHED, ended_at=long_ago)
    make_task(Status.FAILED, ended_at=long_ago)

    assert run("prune", "--dry-run") == (
        "Would delete 3 tasks.\n  Canceled 0\n  Failed 1\n  Finished 2"
    )
    assert answer("prune", "--dry-run") == {
        "would_delete": {"Canceled": 0, "Failed": 1, "Finished": 2}
    }
    assert TaskLog.objects.count() == 7
    assert run("prune") == "Deleted 3 tasks."
    assert list(TaskLog.objects.order_by("pk")) == kept
    assert answer("prune") == {"deleted": 0}


# The dispatcher's state


@pytest.mark.django_db
def test_suspending_and_resuming_say_how_it_stands():
    said = run("suspend-dispatch", "--reason", "deploy")

    assert said.startswith("The dispatcher is suspended since 20")
    assert said.endswith("by the system (deploy).")
    assert not can_dispatch_now()
    assert run("resume-dispatch") == (
        "The dispatcher is not suspended, and has made no pass yet."
    )
    assert can_dispatch_now()


@pytest.mark.django_db
def test_who_suspended_first_stays_named():
    ann = make_user("ann", "control_dispatcher")
    taskcontrol.toggle_dispatcher(enable=False, user=ann, reason="backup")

    assert run("suspend-dispatch", "--reason", "deploy").endswith("by ann (backup).")


@pytest.mark.django_db
def test_scripts_read_the_state_as_json():
    state = answer("suspend-dispatch", "--reason", "deploy")

    assert state["suspended"] is True
    assert (state["suspended_by"], state["suspended_reason"]) == ("the system", "deploy")
    assert answer("resume-dispatch")["suspended"] is False


# Status and explain


@pytest.mark.django_db
def test_status_shows_tasks_queues_workers_and_the_dispatcher():
    worker = make_worker(["default"], pool_size=2, hostname="one@here")
    make_task(Status.STARTED, worker=worker)
    make_task(Status.FINISHED)
    task = make_task(created_at=seconds_ago(120))

    shown = run("status").splitlines()

    assert shown[0] == "Dispatcher  not suspended, and has made no pass yet"
    assert shown[1] == "Beat        never seen"
    assert "Finished  1" in shown
    (default,) = [line for line in shown if line.startswith("default")]
    assert default.split()[1:6] == ["1", "0", "0", "1", "2"]
    assert default.endswith(f"2 min (task {task.pk})")
    assert any(line.split() == ["one@here", "live", "1", "2", "default"] for line in shown)


@pytest.mark.django_db
def test_status_says_that_nobody_is_there():
    beat_was_here()
    DispatcherState.objects.update(beat_seen_at=seconds_ago(120))

    shown = run("status")

    assert shown.endswith("No worker is there.")
    assert "Beat        silent, last seen 2 min ago" in shown


@pytest.mark.django_db
def test_status_marks_counts_that_are_not_whole_and_queues_that_are_paused(monkeypatch):
    from taskcontrol import monitoring
    from taskcontrol.models import QueueState

    monkeypatch.setattr(monitoring, "MOST_FINISHED", 1)
    QueueState.objects.create(name="long", paused_at=seconds_ago(1))
    make_task(Status.FINISHED)
    make_task(Status.FINISHED)

    shown = run("status")

    assert "Finished  1+" in shown
    assert "long (paused)" in shown


@pytest.mark.django_db
def test_status_as_json_holds_all_numbers():
    make_worker(["default"], pool_size=2)
    make_task()

    numbers = answer("status")

    assert numbers["tasks"]["by_status"]["Pending"] == 1
    assert [one["name"] for one in numbers["queues"]] == ["default", "long", "short"]
    assert numbers["workers"][0]["queues"] == ["default"]
    assert numbers["dispatcher"]["suspended"] is False


@pytest.mark.django_db
def test_explain_prints_each_reason():
    make_worker()
    taskcontrol.toggle_dispatcher(enable=False, reason="deploy")
    task = make_task(job_name="close the day", method="tests.tasks.add")

    first, *reasons = run("explain", task.name).splitlines()

    assert first == f"{task.name} close the day: Pending"
    assert len(reasons) == 1
    assert reasons[0].startswith("  The dispatcher is suspended since")


@pytest.mark.django_db
def test_explain_as_json_has_codes_and_holders():
    worker = make_worker(["default"], pool_size=1)
    holder = make_task(Status.STARTED, worker=worker)
    task = make_task()

    told = answer("explain", task.pk)

    assert (told["task"], told["status"]) == (task.name, "Pending")
    assert [one["code"] for one in told["reasons"]] == ["slots"]
    assert told["reasons"][0]["holders"] == [holder.pk]
    assert told["reasons"][0]["until"] is None


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["4711", "x", "-"])
def test_explaining_what_does_not_exist_fails(name):
    with pytest.raises(CommandError, match="There is no task") as failed:
        run("explain", name)

    assert failed.value.returncode == 1


# Enqueue


@pytest.mark.django_db
def test_enqueue_prints_the_number_of_the_task():
    task = TaskLog.objects.get(pk=run("enqueue", "tests.tasks.nothing"))

    assert (task.method, task.status) == ("tests.tasks.nothing", Status.PENDING)
    assert task.created_by_id is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ("text", "text"),
        ('"3"', "3"),
        ("007", "007"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_an_argument_is_json_if_it_can_be(text, value):
    name = run("enqueue", "tests.tasks.give_back", "--arg", f"value={text}")

    assert TaskLog.objects.get(pk=name).arguments == {"value": value}


@pytest.mark.django_db
def test_arguments_may_be_given_all_at_once():
    name = run(
        "enqueue", "tests.tasks.add", "--json-args", '{"left": 1}', "--arg", "right=2"
    )

    assert TaskLog.objects.get(pk=name).arguments == {"left": 1, "right": 2}


@pytest.mark.django_db
def test_the_options_of_enqueue_are_passed_on():
    told = answer(
        *("enqueue", "tests.tasks.nothing", "--queue", "long", "--priority", "7"),
        *("--at-front", "--run-in", "3600", "--expires-in", "7200", "--timeout", "60"),
        *("--max-retries", "3", "--retry-delay", "1.5", "--job-name", "close the day"),
        *("--job-id", "day-1", "--batch-id", "days"),
    )

    task = TaskLog.objects.get(pk=told["task"])
    assert told["status"] == "Pending"
    assert (task.queue, task.priority, task.at_front) == ("long", 7, True)
    assert (task.timeout, task.max_retries, task.retry_delay) == (60, 3, 1.5)
    assert (task.job_name, task.job_id, task.batch_id) == ("close the day", "day-1", "days")
    assert task.run_at is not None
    assert task.expires_at is not None
    assert seconds_ago(-3500) < task.run_at < seconds_ago(-3700) < task.expires_at


@pytest.mark.django_db
def test_a_zero_is_an_option_like_any_other():
    name = run("enqueue", "tests.tasks.celery_retry", "--priority", 0, "--max-retries", 0)

    task = TaskLog.objects.get(pk=name)
    assert (task.priority, task.max_retries) == (0, 0)


@pytest.mark.django_db
def test_a_task_may_be_enqueued_as_paused():
    assert answer("enqueue", "tests.tasks.nothing", "--paused")["status"] == "Paused"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["os.getcwd"], "may not run"),
        (["tests.tasks.gone"], "has no 'gone'"),
        (["tests.tasks.add"], "cannot be called with the arguments"),
        (["tests.tasks.nothing", "--queue", "slow"], "Unknown queue 'slow'"),
        (["tests.tasks.nothing", "--timeout", "0"], "timeout must be"),
        (["tests.tasks.nothing", "--arg", "x"], "'x' is not NAME=VALUE"),
        (["tests.tasks.nothing", "--arg", "=1"], "'=1' is not NAME=VALUE"),
        (["tests.tasks.nothing", "--json-args", "{"], "'{' is not JSON"),
        (["tests.tasks.nothing", "--json-args", "[1]"], "is not a JSON object"),
        (["tests.tasks.nothing", "--priority", "high"], "invalid int value"),
    ],
)
def test_what_cannot_run_is_refused_with_the_reason(words, why):
    with pytest.raises(CommandError, match=re.escape(why)) as failed:
        run("enqueue", *words)

    assert failed.value.returncode == 1
    assert not TaskLog.objects.exists()


# Cancel and retry


@pytest.mark.django_db
def test_cancel_says_what_became_of_each():
    waiting = make_task()
    running = make_task(Status.STARTED, worker=make_worker())
    names = (waiting.name, running.name)

    assert run("cancel", *names, "--reason", "wrong customer").splitlines() == [
        f"{waiting.name}: canceled",
        f"{running.name}: canceled; its body is told to stop",
    ]
    waiting.refresh_from_db()
    assert (waiting.status, waiting.ended_reason) == (Status.CANCELED, "wrong customer")


@pytest.mark.django_db
def test_cancel_fails_when_one_was_not_canceled_and_cancels_the_others():
    ended, waiting = make_task(Status.FINISHED), make_task()

    assert run_badly("cancel", ended.name, "4711", waiting.name) == (
        1,
        f"{ended.name}: had ended already: Finished\n"
        "4711: There is no task '4711'; it may have been pruned.\n"
        f"{waiting.name}: canceled",
    )


@pytest.mark.django_db
def test_cancel_answers_scripts():
    task = make_task()

    assert answer("cancel", task.name) == [
        {"task": task.name, "done": True, "text": "canceled"}
    ]
    status, said = run_badly("cancel", task.name, "--json")
    assert status == 1
    assert json.loads(said)[0]["done"] is False


@pytest.mark.django_db
def test_retry_says_what_became_of_each():
    failed, canceled = make_task(Status.FAILED), make_task(Status.CANCELED)
    stopping = make_task(Status.CANCELED, occupies=True)

    assert run("retry", failed.name, canceled.name, stopping.name).splitlines() == [
        f"{failed.name}: runs again",
        f"{canceled.name}: runs again",
        f"{stopping.name}: runs again when the body of its last attempt is gone",
    ]
    failed.refresh_from_db()
    assert (failed.status, failed.retry_count) == (Status.PENDING, 1)


@pytest.mark.django_db
def test_retry_now_goes_first():
    task = make_task(Status.FAILED)

    assert run("retry", task.name, "--now") == f"{task.name}: runs again, first in line"
    task.refresh_from_db()
    assert task.at_front is True


@pytest.mark.django_db
def test_retry_fails_for_a_task_that_cannot_run_again():
    waiting = make_task()

    status, said = run_badly("retry", waiting.name)

    assert status == 1
    assert "only Failed or Canceled tasks can be retried" in said


# Pause and resume


@pytest.mark.django_db
def test_pause_and_resume_say_what_became_of_each():
    waiting, ended = make_task(), make_task(Status.FINISHED)

    assert run("pause", waiting.name, "--reason", "prices") == f"{waiting.name}: paused"
    assert TaskEvent.objects.get().detail == "prices"
    assert run_badly("pause", ended.name) == (
        1,
        f"{ended.name}: Task {ended.pk} is Finished; only Pending tasks can be paused.",
    )
    assert run("resume", waiting.name) == f"{waiting.name}: goes on"
    waiting.refresh_from_db()
    assert waiting.status == Status.PENDING


# Batches

#: What each verb says of a batch with a Pending and a Failed task and two others, paused.
OF_BATCHES = {
    "cancel": "3 tasks canceled",
    "pause": "1 task paused",
    "resume": "2 tasks resumed",
    "retry": "1 task run again",
}


@pytest.mark.django_db
@pytest.mark.parametrize("verb", OF_BATCHES)
def test_a_verb_takes_a_batch_too(verb):
    batch = make_batch("import-7")
    for status in (Status.PENDING, Status.FAILED, Status.PAUSED, Status.PAUSED):
        make_task(status, batch_id=batch.pk)

    assert run(verb, "--batch", batch.pk) == f"import-7: {OF_BATCHES[verb]}"
    assert run_badly(verb, "--batch", "nowhere", "--batch", batch.pk)[1].startswith(
        "nowhere: There is no batch 'nowhere'."
    )


@pytest.mark.django_db
@pytest.mark.parametrize("verb", OF_BATCHES)
def test_a_verb_without_tasks_and_batches_asks_for_them(verb):
    with pytest.raises(CommandError, match="Name tasks by their numbers, or a batch"):
        run(verb)


@pytest.mark.django_db
def test_the_reason_of_a_batch_is_kept_and_scripts_are_answered():
    batch = make_batch("import-7")
    task = make_task(batch_id=batch.pk)

    assert answer("cancel", "--batch", batch.pk, "--reason", "wrong file") == [
        {"task": "import-7", "done": True, "text": "1 task canceled"}
    ]
    task.refresh_from_db()
    assert task.ended_reason == "wrong file"
    assert run("retry", "--batch", batch.pk) == "import-7: 0 tasks run again"
    assert run("retry", "--batch", batch.pk, "--canceled") == "import-7: 1 task run again"


def test_a_whole_batch_is_not_put_first():
    with pytest.raises(CommandError, match="--now puts single tasks first"):
        run("retry", "--batch", "import-7", "--now")


# Doctor


@pytest.fixture
def healthy(broker, db, monkeypatch):
    from django.core import checks

    # Depends on the database of the run, and is tested with the checks.
    monkeypatch.setattr(checks, "run_checks", lambda **_tags: [])
    dispatcher_state()
    DispatcherState.objects.update(last_pass_at=seconds_ago(0.5))
    beat_was_here()
    return make_worker()


def test_doctor_ends_with_0_when_all_is_well(healthy):
    lines = run("doctor").splitlines()

    assert "OK    Broker: answers" in lines
    assert all(line.startswith("OK  ") for line in lines)
    assert answer("doctor")["level"] == "OK"


def test_doctor_ends_with_1_after_a_warning(healthy):
    make_task(Status.FAILED)

    status, said = run_badly("doctor")

    assert status == 1
    assert (
        "WARN  Failures: 1 task failed within 1 h: tests.tasks.nothing 1\n      -> " in said
    )


def test_doctor_ends_with_2_when_something_fails(healthy, broker):
    make_task(Status.FAILED)
    broker.kill()

    status, said = run_badly("doctor", "--json")

    assert status == 2
    told = json.loads(said)
    assert told["level"] == "FAIL"
    bad = {one["subject"]: one for one in told["findings"] if one["level"] != "OK"}
    assert set(bad) == {"Broker", "Bell", "Failures"}
    assert all(one["advice"] for one in bad.values())


# Ready for deploy


@pytest.fixture
def _hurry(monkeypatch):
    monkeypatch.setattr(deployment, "PAUSE", 0.01)


@pytest.mark.django_db
@pytest.mark.usefixtures("_hurry")
def test_a_quiet_site_is_ready_and_told_to_stay_so():
    make_task()

    assert run("ready-for-deploy").splitlines() == [
        "Ready: no task runs.",
        "The dispatcher is not suspended, so tasks may start at any moment: "
        "run suspend-dispatch first.",
    ]

    taskcontrol.toggle_dispatcher(enable=False)

    assert run("ready-for-deploy") == "Ready: no task runs."
    assert answer("ready-for-deploy") == {"ready": True, "suspended": True, "tasks": []}


@pytest.mark.django_db
@pytest.mark.usefixtures("_hurry")
def test_a_busy_site_is_not_ready_and_names_what_runs():
    taskcontrol.toggle_dispatcher(enable=False)
    running = make_task(Status.STARTED, job_name="close the day")
    stopping = make_task(Status.CANCELED, occupies=True)
    sent = make_task(Status.QUEUED)

    status, said = run_badly("ready-for-deploy")

    assert status == 1
    first, second, third, fourth = said.splitlines()
    assert first == "Not ready: 3 tasks."
    assert second.startswith(f"  {running.name} close the day: Started, began 20")
    assert third.startswith(f"  {stopping.name} tests.tasks.nothing: Canceled, stopping, b")
    assert fourth == f"  {sent.name} tests.tasks.nothing: Queued"


@pytest.mark.django_db
@pytest.mark.usefixtures("_hurry")
def test_scripts_learn_what_is_in_the_way():
    task = make_task(Status.STARTED)

    status, said = run_badly("ready-for-deploy", "--json", "--wait", "0.05")

    told = json.loads(said)
    assert status == 1
    assert (told["ready"], told["suspended"]) == (False, False)
    assert told["tasks"][0]["task"] == task.name
    assert told["tasks"][0]["method"] == "tests.tasks.nothing"


# What a worker refuses


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ["--queue", "short,fast"],
            "Unknown queue: fast. Known are short, default, long, myqueue; "
            'TASKCONTROL["QUEUES"] declares more.',
        ),
        (["--num-workers", "0"], "--num-workers must be 1 or more, not 0."),
        *(
            (
                ["--queue", nothing],
                "--queue names no queue. Known are short, default, long, myqueue.",
            )
            for nothing in ("", " , ")
        ),
    ],
)
def test_a_worker_says_why_it_does_not_start(words, why, conf):
    conf(QUEUES={"myqueue": {"timeout": 5000, "background_workers": 4}})

    with pytest.raises(CommandError) as refused:
        run("worker", *words)
    assert str(refused.value) == why


# As processes, beside a real worker


def process(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "django", "taskcontrol", *words],
        env={**os.environ, **site_environment(), **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.integration
def test_a_task_enqueued_from_the_shell_runs(worker):
    name = process("enqueue", "tests.tasks.add", "--arg", "left=1").stdout.strip()

    task = eventually(
        lambda: TaskLog.objects.filter(pk=name, status=Status.FINISHED).first(),
        why=worker.process.tail,
    )
    assert task.result == 1


@pytest.mark.integration
def test_a_body_is_canceled_from_the_shell_and_holds_a_deployment_until_it_is_gone(worker):
    task = taskcontrol.enqueue("tests.tasks.sleep", seconds=60)
    eventually(lambda: TaskLog.objects.filter(pk=task.pk, status=Status.STARTED).exists())

    busy = process("ready-for-deploy")
    canceled = process("cancel", task.name)
    ready = process("ready-for-deploy", "--wait", "20")

    assert (busy.returncode, canceled.returncode, ready.returncode) == (1, 0, 0)
    assert canceled.stdout == f"{task.name}: canceled; its body is told to stop\n"
    assert f"{task.name} tests.tasks.sleep: Started" in busy.stdout


@pytest.mark.integration
def test_a_broker_that_is_down_gives_a_sentence_and_no_traceback(workshop, broker):
    workshop.close()  # a live worker would dispatch before the command does
    make_worker()
    task = taskcontrol.enqueue("tests.tasks.nothing")
    broker.kill()

    done = process("dispatch")

    assert done.returncode == 1
    assert done.stderr.startswith("CommandError: The broker cannot be reached")
    assert "Traceback" not in done.stderr
    assert TaskLog.objects.get(pk=task.pk).status == Status.PENDING


@pytest.mark.django_db(transaction=True)
def test_a_reader_who_has_read_enough_gets_no_traceback():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "django", "taskcontrol", "status"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **site_environment()},
        check=False,
    )
    os.close(write)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
