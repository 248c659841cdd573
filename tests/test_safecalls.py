"""Safe calls run what is on the whitelist and nothing else, with the rights of their creator."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission

import taskcontrol
from taskcontrol import lifecycle, safecalls
from taskcontrol.exceptions import (
    CreatorGone,
    InvalidCall,
    MethodNotCallable,
    NotPermitted,
    NotWhitelisted,
)
from taskcontrol.execution import run
from taskcontrol.models import TaskLog
from taskcontrol.safecalls import whitelist
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_user
from tests.models import Paper

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]


def run_now(task):
    """Run a task here to its end, and return its row."""
    (sent,) = lifecycle.promote([task.pk], site="s")
    run(task.pk, sent.attempt)
    return TaskLog.objects.get(pk=task.pk)


def allow(user, codename):
    user.user_permissions.add(
        Permission.objects.get(codename=codename, content_type__app_label="tests")
    )
    return type(user).objects.get(pk=user.pk)


@pytest.fixture
def ann():
    return allow(make_user("ann"), "view_paper")


@pytest.mark.parametrize(
    ("method", "arguments", "result"),
    [
        (tasks.open_to_all, {"value": [1, None]}, [1, None]),
        ("tests.tasks.open_to_all", {}, None),
        (tasks.celery_task_open_to_all, {"value": 4}, 5),
        ("tests.tasks.celery_task_open_to_all", {"value": 4}, 5),
        (tasks.Desk.ring, {}, "ring"),
        ("tests.tasks.Desk.name", {}, "Desk"),
        ("greet the user", {}, "hello system"),
    ],
    ids=str,
)
def test_what_is_on_the_whitelist_may_be_called(method, arguments, result):
    task = taskcontrol.enqueue_safe(method, arguments=arguments)

    assert task.call_whitelisted_function is True
    ended = run_now(task)
    assert (ended.status, ended.result) == (Status.FINISHED, result)


def test_the_option_says_the_same():
    assert taskcontrol.enqueue("greet the user", call_whitelisted_function=True).method == (
        "tests.tasks.greet"
    )


@pytest.mark.parametrize(
    "method",
    [tasks.nothing, "tests.tasks.nothing", tasks.celery_add, "tests.models.Counter"],
    ids=str,
)
def test_anything_else_is_refused_at_the_call(method):
    with pytest.raises(NotWhitelisted, match=r"@taskcontrol\.whitelist"):
        taskcontrol.enqueue_safe(method)

    assert not TaskLog.objects.exists()


@pytest.mark.parametrize("method", ["os.system", "builtins.eval", "taskcontrol.cancel"])
def test_what_may_not_run_at_all_is_not_even_looked_at(method):
    with pytest.raises(PermissionError):
        taskcontrol.enqueue_safe(method)


@pytest.mark.parametrize("method", ["no such name", "tests.tasks.no_such", "", None])
def test_a_name_that_nobody_has_is_refused(method):
    with pytest.raises((MethodNotCallable, NotWhitelisted, InvalidCall)):
        taskcontrol.enqueue_safe(method)


def test_a_name_given_by_the_decorator_is_for_safe_calls_alone():
    with pytest.raises(MethodNotCallable):
        taskcontrol.enqueue("greet the user")


def test_a_function_that_left_the_whitelist_is_refused_in_the_worker(monkeypatch):
    task = taskcontrol.enqueue_safe(tasks.open_to_all)
    monkeypatch.delattr(tasks.open_to_all, safecalls.MARK)

    ended = run_now(task)

    assert (ended.status, ended.ended_reason) == ("Failed", "not allowed in this worker")
    assert "'tests.tasks.open_to_all' may not be called safely" in ended.error_message


def test_arguments_are_checked_as_ever():
    with pytest.raises(InvalidCall, match="unexpected keyword"):
        taskcontrol.enqueue_safe(tasks.open_to_all, wrong=1)


# Many at once


def test_many_safe_calls_are_one_batch():
    batch = taskcontrol.bulk_enqueue_safe(
        [{"value": 1}, {"value": 2}], method="tests.tasks.open_to_all"
    )

    rows = TaskLog.objects.filter(batch_id=batch, call_whitelisted_function=True)
    assert rows.count() == 2


def test_one_that_is_refused_refuses_all():
    calls = [{"method": tasks.open_to_all}, {"method": tasks.nothing}]

    with pytest.raises(NotWhitelisted) as refused:
        taskcontrol.bulk_enqueue_safe(calls)

    assert refused.value.__notes__ == [
        "This was task 1 of bulk_enqueue; nothing was stored."
    ]
    assert not TaskLog.objects.exists()


@pytest.mark.parametrize(
    "call",
    [
        lambda off: taskcontrol.enqueue_safe(tasks.nothing, **off),
        lambda off: taskcontrol.bulk_enqueue_safe([{"method": tasks.nothing, **off}]),
        lambda off: taskcontrol.bulk_enqueue_safe([{}], method=tasks.nothing, **off),
    ],
    ids=["one", "own", "shared"],
)
@pytest.mark.parametrize("value", [False, 0, None])
def test_a_safe_call_cannot_be_made_unsafe(call, value):
    with pytest.raises(InvalidCall, match="safe call cannot be made"):
        call({"call_whitelisted_function": value})


def test_what_is_no_task_at_all_is_refused_as_ever():
    with pytest.raises(InvalidCall, match="A task is a dict"):
        taskcontrol.bulk_enqueue_safe([5])


# The creator's rights


def test_a_permission_is_asked_of_the_creator(ann):
    assert run_now(taskcontrol.enqueue_safe("greet the user", created_by=ann)).result == (
        "hello ann"
    )
    with pytest.raises(
        NotPermitted, match=r"bob may not call tests\.tasks\.greet.*view_pap"
    ):
        taskcontrol.enqueue_safe("greet the user", created_by=make_user("bob"))


def test_a_permission_that_was_lost_is_missing_in_the_worker(ann):
    task = taskcontrol.enqueue_safe("greet the user", created_by=ann, max_retries=3)
    ann.user_permissions.clear()

    ended = run_now(task)

    assert (ended.status, ended.ended) == ("Failed", True)
    assert ended.ended_reason.startswith("discarded: ann may not call tests.tasks.greet")


def test_a_waiting_task_says_that_its_creator_lost_the_right(ann):
    task = taskcontrol.enqueue_safe("greet the user", created_by=ann)
    ann.user_permissions.clear()

    assert "ann may not call tests.tasks.greet" in taskcontrol.explain(task)[0].text


def test_a_name_that_is_gone_in_the_worker_is_told():
    task = taskcontrol.enqueue_safe(tasks.open_to_all)
    TaskLog.objects.update(method="nothing of this name")

    assert run_now(task).ended_reason == "unknown method"


def test_a_deactivated_creator_has_no_rights(ann):
    task = taskcontrol.enqueue_safe(tasks.open_to_all, created_by=ann, max_retries=3)
    ann.is_active = False
    ann.save()

    ended = run_now(task)

    assert (ended.status, ended.ended) == ("Failed", True)
    assert "its creator ann is deactivated" in ended.error_message
    with pytest.raises(CreatorGone, match="is deactivated"):
        taskcontrol.enqueue_safe(tasks.open_to_all, created_by=ann)


def test_a_deleted_creator_has_no_rights(ann):
    task = taskcontrol.enqueue_safe(tasks.open_to_all, created_by=ann)
    ann.delete()

    ended = run_now(task)

    assert ended.status == "Failed"
    assert "was deleted" in ended.error_message


# Actions on documents


def test_an_action_must_be_on_the_whitelist_too(ann):
    paper = Paper.objects.create(title="lease")
    ann = allow(ann, "change_paper")
    options = {"document_type": paper, "created_by": ann}

    signed = taskcontrol.enqueue_safe(document_action="sign", **options)

    assert run_now(signed).result == "lease signed by ann"
    with pytest.raises(NotWhitelisted, match=r"tests\.Paper\.stamp"):
        taskcontrol.enqueue_safe(document_action="stamp", mark="x", **options)


def test_the_permission_of_an_action_is_asked(ann):
    paper = Paper.objects.create(title="lease")

    with pytest.raises(NotPermitted, match="change_paper"):
        taskcontrol.enqueue_safe(
            document_type=paper, document_action="sign", created_by=ann
        )


# The decorator


def test_two_functions_cannot_have_one_name():
    with pytest.raises(InvalidCall, match=r"'greet the user'.*tests\.tasks\.greet"):
        whitelist(name="greet the user")(tasks.nothing)


def test_the_same_function_may_be_decorated_again():
    assert whitelist(name="greet the user", permission="tests.view_paper")(tasks.greet)


@pytest.mark.parametrize("permission", ["view_paper", "a.b.c", ""])
def test_a_permission_has_an_app(permission):
    with pytest.raises(InvalidCall, match=r"app_label\.codename"):
        whitelist(permission=permission)(tasks.nothing)


@pytest.mark.parametrize("thing", [tasks.celery_add, Paper, 5], ids=str)
def test_only_functions_are_marked(thing):
    with pytest.raises(InvalidCall, match="marks functions"):
        whitelist(thing)
