"""BEFORE_JOB and AFTER_JOB: called around each body, and harmless to its end."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol import hooks
from taskcontrol.context import current_task, current_user
from taskcontrol.execution import run
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_user
from tests.test_execution import made, outcome, queued, raising

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.databases,
]

HERE = "tests.test_hooks"
METHOD = "tests.test_execution.made_up"

#: What the hooks were called with, in order.
calls: list[object] = []


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


def before(method, kwargs, transaction_type):
    calls.append(("before", method, kwargs, transaction_type))


def after(method, kwargs, result):
    calls.append(("after", method, kwargs, result))


def after_too(result):
    calls.append(("after too", result))


def say_where_it_runs():
    task = current_task()
    calls.append((task.attempt, str(current_user()), task.row.job_name))


def refuse(kwargs):
    raise PermissionError("not today")


def leave():
    raise SystemExit("enough")


def interrupt():
    raise KeyboardInterrupt


def spoil(kwargs):
    kwargs["name"] = "spoiled"


def test_hooks_are_called_around_a_body_in_order(conf):
    conf(BEFORE_JOB=[f"{HERE}.before"], AFTER_JOB=[f"{HERE}.after", f"{HERE}.after_too"])

    outcome(lambda: calls.append("body") or 5, given={"name": "body"})

    assert calls == [
        ("before", METHOD, {"name": "body"}, "job"),
        "body",
        ("after", METHOD, {"name": "body"}, 5),
        ("after too", 5),
    ]


def test_hooks_after_a_body_are_called_when_it_failed(conf):
    conf(AFTER_JOB=[f"{HERE}.after"])

    row = outcome(raising(ValueError("bad")), max_retries=1)

    assert row.status == Status.FAILED
    assert calls == [("after", METHOD, {}, None)]


def test_hooks_are_not_called_again_for_runs_in_place(conf, monkeypatch):
    monkeypatch.setattr("taskcontrol.conflicts.PAUSES", (0,))
    conf(BEFORE_JOB=[f"{HERE}.before"], AFTER_JOB=[f"{HERE}.after_too"])
    runs = []

    def body():
        runs.append(1)
        if len(runs) == 1:
            raise taskcontrol.Retry
        return "second"

    outcome(body)

    assert [call[0] for call in calls] == ["before", "after too"]


def test_hooks_run_as_the_creator_and_know_the_task_p8(conf):
    path = f"{HERE}.say_where_it_runs"
    conf(BEFORE_JOB=[path], AFTER_JOB=[path])

    outcome(lambda: None, created_by=make_user("ann"))

    assert calls == [(1, "ann", METHOD)] * 2


@pytest.mark.parametrize("bad", ["refuse", "leave", "nowhere"])
def test_a_hook_that_raises_before_a_body_fails_the_task_and_keeps_the_body_out(conf, bad):
    conf(
        BEFORE_JOB=[f"{HERE}.before", f"{HERE}.{bad}", f"{HERE}.before"],
        AFTER_JOB=[f"{HERE}.after_too"],
    )

    row = outcome(lambda: calls.append("body"), max_retries=1)

    assert (row.status, row.retry_at is not None) == (Status.FAILED, True)
    assert [call[0] for call in calls] == ["before", "after too"]


@pytest.mark.parametrize("bad", ["refuse", "leave", "interrupt", "nowhere"])
@pytest.mark.parametrize("body", [lambda: "fine", raising(ValueError("bad"))])
def test_a_hook_that_raises_after_a_body_changes_nothing_and_is_logged(
    conf, caplog, bad, body
):
    outcome(body)
    expected = outcome(body).status
    conf(AFTER_JOB=[f"{HERE}.{bad}", f"{HERE}.after_too"])

    row = outcome(body)

    assert row.status == expected
    assert calls[0][0] == "after too"
    assert f"{HERE}.{bad} of AFTER_JOB failed after task {row.pk}." in caplog.text


def test_who_runs_a_task_at_once_may_interrupt_what_comes_after_it(conf):
    conf(AFTER_JOB=[f"{HERE}.interrupt"])

    with pytest.raises(KeyboardInterrupt):
        taskcontrol.enqueue(tasks.nothing, now=True)

    assert TaskLog.objects.get().status == Status.FINISHED


def test_what_a_hook_does_to_the_arguments_reaches_nobody_else(conf):
    conf(BEFORE_JOB=[f"{HERE}.spoil", f"{HERE}.before"])
    made["other"] = lambda: "as it was"

    row = outcome(lambda: None, given={"name": "other"})

    assert row.result == "as it was"
    assert calls[0][2] == {"name": "other"}


def test_what_never_came_to_its_body_has_no_hook_after_it(conf):
    conf(AFTER_JOB=[f"{HERE}.after_too"])

    assert run(queued("tests.nowhere.job").pk, 1) is True

    assert calls == []


def test_without_hooks_nothing_is_read(monkeypatch):
    monkeypatch.setattr(hooks, "_call_of", lambda _row: pytest.fail("read"))

    assert outcome(lambda: 1).result == 1
