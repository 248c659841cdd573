"""Scripts: what they can do, what they cannot, and that nothing leads out of them."""

from __future__ import annotations

import sys

import pytest
from django.apps import apps
from django.contrib.auth.models import AnonymousUser, Permission
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.utils.timezone import localdate, now

import taskcontrol
from taskcontrol import lifecycle, safecalls
from taskcontrol.contrib.scripts import finding
from taskcontrol.contrib.scripts.interpreter import run
from taskcontrol.contrib.scripts.models import Script
from taskcontrol.contrib.scripts.words import words
from taskcontrol.exceptions import InvalidCall, NotPermitted, NotWhitelisted
from taskcontrol.execution import run as run_attempt
from taskcontrol.models import TaskLog
from tests import tasks
from tests.factories import make_user

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]


def write(name="totals", source="return args", **columns):
    """Store a script that a person could have stored."""
    script = Script(name=name, source=source, **columns)
    script.full_clean()
    script.save()
    return script


def run_now(task):
    """Run a task here to its end, and return its row."""
    (sent,) = lifecycle.promote([task.pk], site="s")
    run_attempt(task.pk, sent.attempt)
    return TaskLog.objects.get(pk=task.pk)


def result_of(source, user=None, **args):
    """Return what a script returns as a task."""
    write("one", source)
    ended = run_now(taskcontrol.enqueue_safe("one", arguments=args, created_by=user))
    assert ended.status == "Finished", ended.error_message
    return ended.result


def error_of(source, user=None, **args):
    """Return the last line of the error of a script."""
    write("one", source)
    ended = run_now(taskcontrol.enqueue_safe("one", arguments=args, created_by=user))
    assert ended.status == "Failed"
    return ended.error_message.strip().splitlines()[-1]


# By name


def test_a_script_is_called_by_its_name():
    write("nightly totals", "return sum(args['numbers'])")

    task = taskcontrol.enqueue_safe("nightly totals", numbers=[1, 2, 3])

    assert (task.method, task.call_whitelisted_function) == ("script:nightly totals", True)
    assert run_now(task).result == 6


def test_scripts_go_through_every_safe_call():
    write("double", "return args['n'] * 2")

    batch = taskcontrol.bulk_enqueue_safe({"method": "double", "n": n} for n in range(3))
    single = taskcontrol.enqueue("double", n=4, call_whitelisted_function=True)
    here = taskcontrol.enqueue_safe("script:double", n=5, now=True)

    rows = TaskLog.objects.filter(batch_id=batch).order_by("batch_order")
    assert [run_now(row).result for row in rows] == [0, 2, 4]
    assert run_now(single).result == 8
    assert here.result == 10


@pytest.mark.parametrize("name", ["double", "script:double", "other", "script:other"])
def test_no_other_call_runs_a_script_and_no_name_leads_to_none(name):
    write("double")

    with pytest.raises(InvalidCall):
        taskcontrol.enqueue(name)
    if "other" in name:
        with pytest.raises(NotWhitelisted):
            taskcontrol.enqueue_safe(name)


def test_a_schedule_runs_a_script_as_the_user_of_the_schedules():
    write("morning", "return [user, args['n']]")
    schedule = taskcontrol.schedules.create(
        "morning", cron="0 6 * * *", call_whitelisted_function=True, arguments={"n": 1}
    )

    ended = run_now(taskcontrol.schedules.run(schedule))

    assert ended.method == "script:morning"
    assert ended.result == [ended.created_by.get_username(), 1]


def test_a_disabled_script_is_refused_at_the_call_and_in_the_worker():
    script = write()
    task = taskcontrol.enqueue_safe("totals", max_retries=1)
    Script.objects.update(enabled=False)

    with pytest.raises(NotWhitelisted):
        taskcontrol.enqueue_safe("totals")
    ended = run_now(task)

    assert ended.status == "Failed"
    assert "there is no script 'totals' that is enabled" in ended.error_message
    assert str(script) == "totals"


def test_a_script_is_read_when_it_runs():
    write("one", "return 'old'")
    task = taskcontrol.enqueue_safe("one")
    Script.objects.update(source="return 'new'")

    assert run_now(task).result == "new"


def test_a_permission_is_asked_of_who_runs_it_twice():
    ann = make_user("ann")
    ann.user_permissions.add(Permission.objects.get(codename="view_paper"))
    ann = type(ann).objects.get(pk=ann.pk)
    write("secret", "return user", permission="tests.view_paper")

    with pytest.raises(NotPermitted, match="bob may not call script:secret"):
        taskcontrol.enqueue_safe("secret", created_by=make_user("bob"))
    kept = taskcontrol.enqueue_safe("secret", created_by=ann)
    assert run_now(kept).result == "ann"
    lost = taskcontrol.enqueue_safe("secret", created_by=ann)
    ann.user_permissions.clear()
    assert run_now(lost).ended_reason.startswith("discarded: ann may not call")


# What can be stored


@pytest.mark.parametrize("name", ["", "a.b", "script:x", " x", "-x", "x\n", "x" * 101])
def test_a_name_that_could_be_mistaken_is_refused(name):
    with pytest.raises(ValidationError) as refused:
        write(name)

    assert "name" in refused.value.message_dict


def test_a_function_of_the_code_keeps_its_name():
    with pytest.raises(ValidationError, match=r"This is the name of tests\.tasks\.greet"):
        write("greet the user")

    Script.objects.create(name="greet the user", source="return 'mine'")
    assert run_now(taskcontrol.enqueue_safe("greet the user")).result == "hello system"


@pytest.mark.parametrize("permission", ["view_paper", "a.b.c", "a b.c"])
def test_a_permission_that_is_none_is_refused(permission):
    with pytest.raises(ValidationError, match=r"app_label\.codename"):
        write(permission=permission)


def test_a_text_that_cannot_run_is_not_stored():
    with pytest.raises(ValidationError, match="Line 1: import cannot stand in a script"):
        write("one", "import os")


def test_a_text_that_came_past_the_check_does_not_run():
    Script.objects.create(name="one", source="import os\nreturn os.getcwd()")

    ended = run_now(taskcontrol.enqueue_safe("one"))

    assert ended.status == "Failed"
    assert "The script 'one' cannot run: Line 1: import cannot stand" in ended.error_message


def test_arguments_cannot_take_the_place_of_a_guard():
    write("one", "return 'x'.upper()")

    task = taskcontrol.enqueue_safe(
        "one", arguments={"_getattr_": 1, "__builtins__": {}, "script": 2, "args": 3}
    )

    assert run_now(task).result == "X"


def test_one_run_leaves_nothing_to_the_next():
    source = "log = 1\nargs['list'].append(2)\nreturn args['list']"
    assert result_of(source, list=[1]) == [1, 2]

    assert run_now(taskcontrol.enqueue_safe("one", list=[1])).result == [1, 2]


# What it can do


def test_what_it_logs_and_prints_stands_in_the_debug_log():
    write("one", "log('seen', 1)\nprint('a', 'b', sep='-')")

    ended = run_now(taskcontrol.enqueue_safe("one"))

    assert "seen 1\na-b" in ended.debug_log


def test_it_says_how_far_it_is():
    write("one", "progress(1, total=2, description='half')")

    ended = run_now(taskcontrol.enqueue_safe("one"))

    assert ended.progress == {"count": 1, "total": 2, "description": "half"}


def test_it_knows_the_time_of_the_database():
    assert result_of("return abs(now() - args['now']) < timedelta(minutes=1)", now=now())
    assert run("return today()", "one", words(), {}) == localdate()


def test_an_error_names_its_line():
    write("one", "x = 1\n\nreturn x / 0")

    ended = run_now(taskcontrol.enqueue_safe("one"))

    assert 'File "<script>", line 3' in ended.error_message
    assert "taskcontrol" not in ended.error_message
    assert ended.error_message.strip().endswith("ZeroDivisionError: division by zero")


def test_it_may_ask_for_a_retry_and_give_up():
    write("again", "raise Retry(0)")
    write("never", "raise Discard('no shelf')")

    again = run_now(taskcontrol.enqueue_safe("again", max_retries=1))
    never = run_now(taskcontrol.enqueue_safe("never", max_retries=1))

    assert (again.status, again.ended) == ("Failed", False)
    assert never.ended_reason == "discarded: no shelf"


# As who runs it


def test_what_it_calls_and_enqueues_is_asked_of_its_user():
    bob = make_user("bob")
    call, enqueue = "return call('greet the user')", "return enqueue('greet the user')"

    assert "NotPermitted: bob may not call tests.tasks.greet" in error_of(call, bob)
    Script.objects.all().delete()
    assert "NotPermitted: bob may not call tests.tasks.greet" in error_of(enqueue, bob)


def test_a_script_of_an_anonymous_visitor_has_no_rights_p8():
    visitor = AnonymousUser()

    assert result_of("return [may('tests.view_paper'), user]", visitor) == [False, ""]
    Script.objects.all().delete()
    assert "NotPermitted: An anonymous user may not call" in error_of(
        "return call('greet the user')", visitor
    )
    Script.objects.all().delete()
    name = result_of("return enqueue('tests.tasks.open_to_all')", visitor)
    assert TaskLog.objects.get(pk=name).runs_as.is_anonymous


def test_what_it_enqueues_belongs_to_its_user():
    bob = make_user("bob")

    name = result_of("return enqueue('tests.tasks.open_to_all', value=3, priority=7)", bob)

    child = TaskLog.objects.get(pk=name)
    assert (child.created_by, child.priority) == (bob, 7)
    assert child.call_whitelisted_function is True
    assert run_now(child).result == 3


def test_it_calls_functions_and_other_scripts_by_name():
    write("inner", "return args['n'] + 1")
    write("named", "return args['name']")

    assert result_of(
        "return [call('inner', n=1), call('tests.tasks.open_to_all', value=2),"
        " call('named', name='x')]"
    ) == [2, 2, "x"]


@pytest.mark.parametrize(
    "option",
    [
        "created_by=None",
        "on_success='os.system'",
        "call_whitelisted_function=False",
        "retry_on='os.error'",
        "now=True",
        "document_type='auth.User'",
        "on_duplicate='replace'",
    ],
)
def test_it_cannot_say_what_leads_to_other_code_or_users(option):
    name = option.partition("=")[0]

    said = error_of(f"enqueue('tests.tasks.open_to_all', {option})")

    assert f"A script cannot give {name}=; it may give: arguments, at_front" in said


@pytest.mark.parametrize("name", ["tests.tasks.nothing", "os.system", "no such", "one"])
def test_it_reaches_nothing_that_was_not_opened(name):
    verb = "call" if name != "one" else "enqueue"
    if name == "one":
        Script.objects.create(name="closed", source="return 1", enabled=False)
        name = "closed"

    assert "may not" in error_of(f"{verb}('{name}')")


def test_no_object_comes_in_by_a_call(monkeypatch):
    monkeypatch.setattr(tasks.open_to_all, "__code__", (lambda value=None: object).__code__)

    said = error_of("return call('tests.tasks.open_to_all')")

    assert "'tests.tasks.open_to_all' returned what scripts cannot have" in said


def test_no_function_of_a_script_goes_out_by_a_call():
    said = error_of("return call('tests.tasks.open_to_all', value=lambda: 0)")

    assert "'tests.tasks.open_to_all' was given what scripts cannot have" in said


def test_a_script_that_calls_itself_ends_with_an_error():
    said = error_of("return call('one')")

    assert said.endswith("InvalidCall: Scripts call each other at most 16 levels deep.")


# The app


def test_the_app_says_what_it_needs(monkeypatch):
    config = apps.get_app_config("taskcontrol_scripts")
    for module in [name for name in sys.modules if name.startswith("RestrictedPython.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "RestrictedPython", None)
    for module in ("finding", "interpreter"):
        monkeypatch.delitem(sys.modules, f"taskcontrol.contrib.scripts.{module}")
    monkeypatch.delattr("taskcontrol.contrib.scripts.finding")

    with pytest.raises(
        ImproperlyConfigured, match=r"pip install \"taskcontrol\[scripts\]\""
    ):
        config.ready()


def test_another_module_that_is_missing_is_not_blamed_on_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "taskcontrol.contrib.scripts.finding", None)
    monkeypatch.delattr("taskcontrol.contrib.scripts.finding")

    with pytest.raises(ModuleNotFoundError, match="finding"):
        apps.get_app_config("taskcontrol_scripts").ready()


def test_being_ready_twice_finds_each_script_once():
    apps.get_app_config("taskcontrol_scripts").ready()

    assert safecalls.FINDERS.count(finding.find) == 1


def test_without_the_app_there_are_no_scripts(monkeypatch):
    write()
    monkeypatch.setattr(safecalls, "FINDERS", [])

    with pytest.raises(NotWhitelisted):
        taskcontrol.enqueue_safe("totals")
