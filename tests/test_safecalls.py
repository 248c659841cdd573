"""Safe calls run what is on the whitelist and nothing else, with the rights of their creator."""

from __future__ import annotations

import importlib
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import AnonymousUser, Permission
from django.db import connections
from django.test import RequestFactory

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
from taskcontrol.middleware import CurrentUserMiddleware
from taskcontrol.models import TaskLog
from taskcontrol.safecalls import Entry, whitelist
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


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "builtins.eval", "taskcontrol.cancel", "tests.nope.x", "nope.x"),
        *("no such name", "tests.tasks.no_such", "tests.tasks", "../x", "a b.c", "", 5),
        *("tests.tasks.open_to_all.__call__", "tests.models.Paper.objects.all", ".", "é.x"),
    ],
)
def test_every_name_that_nobody_opened_is_refused_by_one_sentence(name):
    with pytest.raises(NotWhitelisted) as refused:
        taskcontrol.enqueue_safe(name)

    assert str(refused.value) == (
        f"{name!r} may not be called safely: there is no function of this name that is "
        "decorated with @taskcontrol.whitelist."
    )


def test_a_name_from_outside_imports_nothing():
    with pytest.raises(NotWhitelisted):
        taskcontrol.enqueue_safe("tests.neverimported.reached")

    assert "tests.neverimported" not in sys.modules


def test_a_safe_call_needs_a_name():
    with pytest.raises(InvalidCall, match="needs a method"):
        taskcontrol.enqueue_safe(None)


def test_a_wrapper_of_an_opened_function_is_not_opened_by_that():
    with pytest.raises(NotWhitelisted):
        taskcontrol.enqueue_safe("tests.tasks.wrapped_but_not_opened")


@pytest.mark.parametrize(
    "method", ["tests.models.Paper.sign", "tests.aliasing.sign", Paper.sign], ids=str
)
def test_a_method_of_documents_is_not_called_without_one(method):
    importlib.import_module("tests.aliasing")

    with pytest.raises(NotWhitelisted):
        taskcontrol.enqueue_safe(method, arguments={"self": "me"})


@pytest.mark.parametrize("alias", ["again", "open_to_all", "celery_task_open_to_all"])
def test_an_imported_name_is_a_task_of_the_functions_own_type_p4(alias):
    importlib.import_module("tests.aliasing")
    own = "open_to_all" if alias == "again" else alias

    task = taskcontrol.enqueue_safe(f"tests.aliasing.{alias}", value=1)

    assert task.method == f"tests.tasks.{own}"


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


# Visitors whom nobody knows


def ask_as_visitor(ask, user=None):
    """Call ``ask`` as a view would, in a request of ``user``."""
    request = RequestFactory().get("/")
    if user is not None:
        request.user = user
    return CurrentUserMiddleware(lambda _request: ask())(request)


def ask_in_a_thread_of_a_visitor():
    def view():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(closing_connections(greet_safely)).result()

    return ask_as_visitor(view)


def closing_connections(work):
    def done():
        try:
            return work()
        finally:
            connections.close_all()

    return done


def greet_safely(**options):
    return taskcontrol.enqueue_safe("greet the user", **options)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: ask_as_visitor(greet_safely),
        lambda: ask_as_visitor(greet_safely, AnonymousUser()),
        lambda: greet_safely(created_by=AnonymousUser()),
        ask_in_a_thread_of_a_visitor,
    ],
    ids=["no login", "not logged in", "given", "in a thread"],
)
def test_an_anonymous_visitor_is_not_the_system_p8(ask):
    with pytest.raises(NotPermitted, match=r"An anonymous user may not call tests\.tasks"):
        ask()

    assert not TaskLog.objects.exists()


def test_the_worker_knows_an_anonymous_visitor_p8(monkeypatch):
    task = ask_as_visitor(lambda: taskcontrol.enqueue_safe(tasks.open_to_all))
    mark = Entry(tasks.open_to_all, permission="tests.view_paper")
    monkeypatch.setattr(tasks.open_to_all, safecalls.MARK, mark)

    ended = run_now(task)

    assert task.created_by is None
    assert ended.ended_reason.startswith("discarded: An anonymous user may not call")


def test_the_tasks_of_a_visitors_task_are_his_p8():
    first = ask_as_visitor(lambda: taskcontrol.enqueue_safe(tasks.pass_on))

    second = TaskLog.objects.get(pk=int(run_now(first).result))

    assert (second.created_by, second.options["anonymous"]) == (None, True)
    assert second.runs_as.is_anonymous


def test_a_visitor_may_call_what_is_open_to_all():
    task = ask_as_visitor(lambda: taskcontrol.enqueue_safe(tasks.open_to_all, value=3))

    assert run_now(task).result == 3


def test_code_may_enqueue_as_the_system_in_a_request_of_nobody():
    task = ask_as_visitor(lambda: greet_safely(created_by=None))

    assert run_now(task).result == "hello system"


def test_who_logs_in_during_the_request_is_its_user(ann):
    request = RequestFactory().get("/")
    request.user = AnonymousUser()

    def view(request):
        request.user = ann
        return greet_safely()

    assert CurrentUserMiddleware(view)(request).created_by == ann


def test_what_is_told_of_a_deleted_users_task_is_not_told_as_the_system(ann):
    task = taskcontrol.enqueue_safe(tasks.open_to_all, created_by=ann)
    ann.delete()

    assert TaskLog.objects.get(pk=task.pk).runs_as.is_anonymous


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
