"""The form that runs a task of a type: a field for each parameter, checked by enqueue."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from html import unescape
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from taskcontrol.arguments import decode
from taskcontrol.exceptions import NotPermitted
from taskcontrol.handruns import run_by_hand
from taskcontrol.models import TaskLog, TaskType
from taskcontrol.pausing import pause_all
from taskcontrol.registry import declarations, declare_type
from taskcontrol.status import Status
from tests.admin.conftest import NONSENSE_IN_JSON, messages_of, page_url, text_of
from tests.factories import make_type, make_user
from tests.models import Paper

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

KEY = "6a5b0c0e-9d3f-4b62-8f5e-2f0a7f1f6c11"
EVERY = {
    "arg_text": " a b ",
    "arg_number": "7",
    "arg_share": "0.5",
    "arg_price": "9.90",
    "arg_day": "2026-11-22",
    "arg_moment": "2026-11-22T10:30:00",
    "arg_key": KEY,
    "arg_size": "2",
    "arg_color": "1",
    "arg_names": '["x", "y"]',
    "arg_options": '{"a": 1}',
    "arg_wish": "[1, null]",
    "arg_perhaps": "",
    "arg_queue": "mine",
    "arg_most": "5",
    "arg_tags": "",
    "arg_bare": "1.5",
}


@pytest.fixture
def runner(log_in):
    """May run tasks of types, and nothing else."""
    return log_in("runner", "run_tasktype")


@pytest.fixture
def every(monkeypatch):
    """The type of a function with a parameter of every kind."""
    return of(monkeypatch, "every_kind")


def of(monkeypatch, name):
    """Store the declared type of a function of ``tests.hinted``."""
    method = f"tests.hinted.{name}"
    monkeypatch.setitem(declarations, method, None)
    declare_type(method)
    return make_type(method, is_standard=True)


def run(client, one, **values):
    return client.post(page_url(one, "run"), values)


def errors_of(response):
    """Return the errors by field; nothing was made."""
    assert response.status_code == 200
    assert not TaskLog.objects.exists()
    assert not LogEntry.objects.exists()
    return {name: list(told) for name, told in response.context["form"].errors.items()}


# Who may


def test_who_may_run_types_sees_them_and_finds_the_form(runner, every):
    page = text_of(runner.get(page_url(every)))
    form = text_of(runner.get(page_url(every, "run")))

    assert page_url(every, "run") in page
    assert "Take one of each." in form
    assert "The task runs as runner." in form
    assert page_url(every, "reset") not in page


def test_without_the_permission_there_is_no_form_and_no_way(log_in, staff, every):
    keeper = log_in("keeper", "view_tasktype", "change_tasktype", "enqueue_tasklog")
    assert page_url(every, "run") not in text_of(keeper.get(page_url(every)))

    for client in (keeper, staff):
        assert client.get(page_url(every, "run")).status_code == 403
        assert run(client, every, **EVERY).status_code == 403
    assert not TaskLog.objects.exists()


def test_the_room_asks_for_the_permission_again(every):
    user = make_user("nobody")
    with pytest.raises(NotPermitted, match=r"nobody may not run .*every_kind"):
        run_by_hand(every, {"method": every.method}, user=user)


def test_other_methods_and_unknown_types_are_refused(runner, every):
    assert runner.put(page_url(every, "run")).status_code == 405
    assert runner.get("/admin/taskcontrol/tasktype/999/run/").status_code in (302, 404)


# What comes of it


def test_each_value_arrives_as_the_type_that_its_hint_names(runner, every):
    response = run(runner, every, **EVERY, arg_flag="on")

    task = TaskLog.objects.get()
    assert response.status_code == 302
    assert response.url == f"/admin/taskcontrol/tasklog/{task.pk}/change/"
    moment = timezone.make_aware(dt.datetime(2026, 11, 22, 10, 30))  # noqa: DTZ001
    assert decode(task.arguments) == {
        "text": " a b ",
        "number": 7,
        "share": 0.5,
        "price": Decimal("9.90"),
        "day": dt.date(2026, 11, 22),
        "moment": moment,
        "key": UUID(KEY),
        "size": 3,
        "color": "blue",
        "names": ["x", "y"],
        "options": {"a": 1},
        "wish": [1, None],
        "flag": True,
        "perhaps": None,
    }
    assert task.created_by == runner.user
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (runner.user, str(every.pk))
    assert entry.change_message == f"Made task {task.pk}."
    assert messages_of(runner.get(response.url)) == [f"Made task {task.pk}."]


def test_a_default_that_is_left_alone_is_left_to_the_function(runner, monkeypatch):
    one = of(monkeypatch, "nothing_much")
    page = text_of(runner.get(page_url(one, "run")))
    assert 'name="arg_limit" value="3"' in page

    run(runner, one, arg_limit="3", arg_note="n", arg_fast="on")
    run(runner, one, arg_limit="", arg_note="", arg_fast="")

    first, second = TaskLog.objects.order_by("pk")
    assert first.arguments == {}
    assert second.arguments == {"note": "", "fast": False}


def test_names_of_options_are_told_from_the_options(runner, every):
    run(runner, every, **{**EVERY, "arg_queue": "theirs"}, priority="4")

    task = TaskLog.objects.get()
    assert (task.arguments["queue"], task.queue, task.priority) == ("theirs", "default", 4)


def test_queue_time_and_priority_are_taken(runner, monkeypatch):
    one = of(monkeypatch, "nothing_much")

    run(runner, one, queue="long", run_at="2036-01-02T03:04:05", priority="-2")

    task = TaskLog.objects.get()
    at = timezone.make_aware(dt.datetime(2036, 1, 2, 3, 4, 5))  # noqa: DTZ001
    assert (task.queue, task.run_at, task.priority) == ("long", at, -2)
    assert task.status == Status.PENDING


def test_a_function_that_takes_anything_is_given_an_object(runner, monkeypatch):
    one = of(monkeypatch, "anything")

    run(runner, one, extra_arguments='{"a": {"tc": ["decimal", "1.50"]}, "b": "x"}')

    assert decode(TaskLog.objects.get().arguments) == {"a": Decimal("1.50"), "b": "x"}


def test_an_action_asks_for_its_document(runner):
    paper = Paper.objects.create(title="contract")
    one, _ = TaskType.objects.get_or_create(method="tests.Paper.stamp")
    form = runner.get(page_url(one, "run")).context["form"]
    assert list(form.fields)[:3] == ["document_name", "arg_mark", "arg_times"]

    run(runner, one, document_name=str(paper.pk), arg_mark="!", arg_times="1")

    task = TaskLog.objects.get()
    assert (task.method, task.document_name) == ("tests.Paper.stamp", str(paper.pk))
    assert (task.document_action, task.arguments) == ("stamp", {"mark": "!"})


def test_a_document_that_cannot_be_is_refused_by_enqueues_sentence(runner):
    one, _ = TaskType.objects.get_or_create(method="tests.Paper.stamp")
    values = {"document_name": "not a key", "arg_mark": "!", "arg_times": "1"}
    errors = errors_of(run(runner, one, **values))
    assert "not a key" in "".join(*errors.values())


def test_a_paused_type_says_so_and_its_task_waits(runner, monkeypatch):
    one = of(monkeypatch, "nothing_much")
    pause_all(one, reason="month end")
    assert "Paused" in text_of(runner.get(page_url(one, "run")))
    assert run(runner, one).status_code == 302


# What is refused


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("text", "", "This field is required."),
        ("number", "1.5", "Enter a whole number."),
        ("share", "x", "Enter a number."),
        ("price", "x", "Enter a number."),
        ("day", "2026-02-30", "Enter a valid date."),
        ("moment", "yesterday", "Enter a valid date/time."),
        ("key", "x", "Enter a valid UUID."),
        ("size", "9", "Select a valid choice. 9 is not one of the available choices."),
        ("color", "GREEN", "Select a valid choice."),
        ("names", '{"a": 1}', "It must be a list: [1, 2]."),
        ("options", "[1]", 'It must be an object: {"name": value}.'),
        ("options", "{", "This is no JSON"),
        ("wish", '{"tc": ["decimal", "x"]}', "A marked value cannot be read."),
        ("tags", "[[1]]", "unhashable type: 'list'"),
    ],
)
def test_what_is_no_such_value_is_told_at_its_field(runner, every, field, value, told):
    errors = errors_of(run(runner, every, **{**EVERY, f"arg_{field}": value}))
    assert list(errors) == [f"arg_{field}"]
    assert errors[f"arg_{field}"][0].startswith(told)


@pytest.mark.parametrize(
    ("values", "field", "told"),
    [
        ({"priority": "4000"}, "priority", "priority must be a whole number from -1000"),
        ({"queue": "nowhere"}, "queue", "Select a valid choice."),
        ({"arg_text": "x" * 300_000}, "__all__", "The arguments of"),
    ],
)
def test_what_enqueue_refuses_is_told_with_its_sentence(runner, every, values, field, told):
    errors = errors_of(run(runner, every, **{**EVERY, **values}))
    assert list(errors) == [field]
    assert told in errors[field][0]


def test_an_option_that_is_a_parameter_too_is_refused_by_enqueues_sentence(runner, every):
    errors = errors_of(run(runner, every, **EVERY, queue="long"))
    assert "has a parameter 'queue', which is also an option" in errors["__all__"][0]


@pytest.mark.parametrize("method", ["no.such.module.f", "os.system", "tests.hinted.gone"])
def test_a_type_whose_function_is_not_there_says_why_and_has_no_form(runner, method):
    page = text_of(runner.get(page_url(make_type(method), "run")))
    assert 'class="tc-failure"' in page
    assert 'name="queue"' not in page


def test_hostile_names_are_shown_as_text(runner, every):
    page = text_of(run(runner, every, **{**EVERY, "arg_number": "<script>x"}))
    assert "<script>x" not in page


@pytest.mark.parametrize("nonsense", NONSENSE_IN_JSON)
def test_nonsense_in_json_is_told_and_stays_in_the_box(monkeypatch, runner, nonsense):
    one = of(monkeypatch, "anything")

    response = run(runner, one, extra_arguments=nonsense)

    assert errors_of(response).keys() == {"extra_arguments"}
    assert nonsense[:50] in unescape(text_of(response))
