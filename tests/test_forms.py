"""Calls that say the same share what was checked, and nothing else."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection
from django.db.models.signals import post_init
from django.test.utils import CaptureQueriesContext

from taskcontrol import forms
from taskcontrol.cancellation import cancel
from taskcontrol.conf import home_is
from taskcontrol.context import acting_as
from taskcontrol.drafts import Draft
from taskcontrol.enqueueing import bulk_enqueue, enqueue
from taskcontrol.exceptions import InvalidCall
from taskcontrol.models import TaskLog
from taskcontrol.registry import declare_type
from tests import tasks
from tests.factories import make_task, make_type, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def remembered(monkeypatch):
    """The forms that the test remembers."""
    monkeypatch.setattr(forms, "_forms", {})
    return forms._forms


def form_of(**options):
    return Draft(tasks.add, options, {"left": 1}).form


def takes_queue(queue=None, event=None):
    """Has parameters with the names of options, of which each call may say the second."""


def takes_all(**_values):
    """Has no names of its own."""


def test_each_method_has_forms_of_its_own():
    first, second = enqueue(tasks.add, left=1), enqueue(takes_all, left=1)

    assert (first.method, second.method) == (
        "tests.tasks.add",
        "tests.test_forms.takes_all",
    )


def test_calls_that_say_the_same_share_a_form(remembered):
    assert form_of(queue="long") is form_of(queue="long")
    assert form_of(queue="long") is not form_of(queue="short")
    assert form_of() is form_of(timeout=None, now=False, at_front=False)


def test_what_a_call_says_of_itself_alone_makes_no_other_form(remembered):
    for number in range(5):
        Draft(
            tasks.add,
            {
                "arguments": {"right": number},
                "batch_id": f"batch {number}",
                "batch_order": number,
                "created_by": make_user(f"u{number}"),
                "event": f"event {number}",
                "job_id": f"job {number}",
                "job_name": f"name {number}",
            },
            {"left": number},
        )

    assert len(remembered) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"run_at": dt.timedelta(1)},
        {"expires": dt.datetime(2040, 1, 1, tzinfo=dt.UTC)},
        {"retry_on": [ValueError]},
        {"backoff": {"factor": 3}},
        {"at_front_when_starved": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_times_rights_rows_and_lists_are_looked_at_in_each_call(remembered, options):
    assert form_of(**options) is not form_of(**options)
    assert not remembered


def test_a_task_that_is_waited_for_is_looked_at_in_each_call():
    first = make_task()
    assert Draft(tasks.nothing, {"after": first}, {}).values["after_id"] == first.pk

    cancel(first)

    assert Draft(tasks.nothing, {"after": first}, {}).values["after_id"] is None


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ({"timeout": 1}, {"timeout": True}),
        ({"now": True}, {"now": 1}),
        ({"priority": 1}, {"priority": 1.0}),
        ({"max_retries": 0}, {"max_retries": False}),
    ],
    ids=str,
)
def test_what_equals_a_good_value_is_not_taken_for_it(good, bad):
    form_of(**good).values  # noqa: B018 - it is good

    with pytest.raises(InvalidCall):
        form_of(**bad).values  # noqa: B018 - it is not


def test_arguments_are_checked_in_each_call():
    enqueue(tasks.add, left=1)

    with pytest.raises(InvalidCall, match="cannot be called"):
        enqueue(tasks.add, wrong=1)
    with pytest.raises(InvalidCall, match="cannot be called"):
        enqueue(tasks.add)
    with pytest.raises(InvalidCall, match="reserved"):
        enqueue(tasks.add, left=1, tc_left=2)
    with pytest.raises(InvalidCall, match="is a text"):
        enqueue(tasks.add, arguments={"left": 1, 5: 6})


def test_an_option_that_is_also_a_parameter_is_refused_after_good_calls_too():
    enqueue(takes_queue)
    enqueue(takes_queue, arguments={"queue": "x"})

    with pytest.raises(InvalidCall, match="which is also an option"):
        enqueue(takes_queue, queue="long")


def test_an_option_of_the_call_alone_that_is_also_a_parameter_is_refused_too(remembered):
    enqueue(takes_queue, arguments={"event": "x"})

    with pytest.raises(InvalidCall, match="which is also an option"):
        enqueue(takes_queue, arguments={"event": "x"}, event="y")

    assert len(remembered) == 1


def test_names_that_are_good_among_the_arguments_may_be_bad_beside_the_options(remembered):
    enqueue(takes_all, arguments={"tc_x": 1})

    with pytest.raises(InvalidCall, match="reserved"):
        enqueue(takes_all, tc_x=1)

    assert len(remembered) == 1


def test_a_form_remembers_so_many_names_and_no_more(remembered, monkeypatch):
    monkeypatch.setattr(forms, "MOST_NAMES", 3)
    for number in range(9):
        enqueue(takes_all, arguments={f"n{number}": 1})

    (form,) = remembered.values()
    assert len(form._names) == 3


def test_another_alias_of_the_database_makes_no_other_form(remembered):
    first = form_of()

    with home_is("another"):
        assert forms._key_of(tasks.add, {}) in remembered

    assert form_of() is first


def test_a_changed_type_is_seen_at_once(remembered):
    one = make_type("tests.tasks.add", timeout=5)
    assert enqueue(tasks.add, left=1).timeout == 5

    one.timeout = 6
    one.save()

    assert enqueue(tasks.add, left=1).timeout == 6
    assert len(remembered) == 1


def test_a_changed_setting_is_seen_at_once(conf):
    assert enqueue(tasks.add, left=1).timeout == 300

    conf(QUEUES={"default": {"timeout": 77}})

    assert enqueue(tasks.add, left=1).timeout == 77


def test_a_changed_declaration_is_seen_at_once(monkeypatch):
    from taskcontrol import registry

    monkeypatch.setattr(registry, "declarations", dict(registry.declarations))
    monkeypatch.setattr("taskcontrol.tasktypes.declarations", registry.declarations)
    assert enqueue(tasks.add, left=1).timeout == 300

    declare_type("tests.tasks.add", timeout=88)

    assert enqueue(tasks.add, left=1).timeout == 88


def test_a_process_remembers_so_many_forms_and_no_more(remembered, monkeypatch):
    monkeypatch.setattr(forms, "MOST_FORMS", 3)
    for timeout in range(1, 12):
        assert form_of(timeout=timeout).values["timeout"] == timeout

    assert len(remembered) <= 3


def test_a_form_keeps_nothing_of_the_arguments_or_of_the_user(remembered):
    with acting_as(make_user("ann")):
        enqueue(tasks.add, left="a secret", arguments={"right": "another"})

    (form,) = remembered.values()
    assert form.options == {}
    assert form.row({}).created_by_id is None
    assert form.row({}).arguments == {}


def test_rows_of_one_form_share_nothing_that_can_be_changed():
    make_type("tests.tasks.add", retry_on=["builtins.ValueError"])
    first, second = enqueue(tasks.add, left=[1]), enqueue(tasks.add, left=[1])

    first.options["retry_on"].append("x")
    first.arguments["left"].append(2)
    first.event = "changed"
    third = enqueue(tasks.add, left=[1])

    for other in (second, third):
        assert other.options == {"retry_on": ["builtins.ValueError"]}
        assert other.arguments == {"left": [1]}
        assert other.event == ""
        assert other._state is not first._state


def test_receivers_of_the_models_making_are_told():
    made = []

    def receiver(instance, **_):
        made.append(instance)

    enqueue(tasks.add, left=1)
    post_init.connect(receiver, sender=TaskLog)
    try:
        task = enqueue(tasks.add, left=1)
    finally:
        post_init.disconnect(receiver, sender=TaskLog)

    assert task in made


def test_the_second_call_is_one_statement_too():
    enqueue(tasks.add, left=1)

    with CaptureQueriesContext(connection) as queries:
        task = enqueue(tasks.add, left=2)

    assert len(queries) == 1
    assert TaskLog.objects.get(pk=task.pk).arguments == {"left": 2}


def test_the_tasks_of_a_bulk_share_one_form_however_they_differ(remembered):
    bulk_enqueue([{"left": n, "job_id": f"n{n}"} for n in range(20)], method=tasks.add)

    assert len(remembered) == 1
    assert sorted(TaskLog.objects.values_list("batch_order", flat=True)) == [*range(20)]
