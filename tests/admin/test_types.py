"""The screen of the task types: editing, protection of the standard ones, reset, pause."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from taskcontrol import bell, tasktypes
from taskcontrol.dialect import microseconds_now
from taskcontrol.exceptions import NotPermitted
from taskcontrol.models import DispatcherState, TaskType, WaitInterval
from taskcontrol.registry import Declaration, declarations
from taskcontrol.rollup import roll_up
from taskcontrol.screens.gauges import MOST_HOLDERS
from taskcontrol.screens.tasktypes import TaskTypeAdmin
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests.admin.conftest import NONSENSE_IN_JSON, list_url, messages_of, page_url, text_of
from tests.factories import make_task, make_type, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

URL = "/admin/taskcontrol/tasktype/"
METHOD = "shop.billing.charge"


@pytest.fixture
def keeper(log_in):
    """May do what stock permissions allow with types."""
    rights = (f"{verb}_tasktype" for verb in ("view", "add", "change", "delete"))
    return log_in("keeper", *rights)


@pytest.fixture
def declared(monkeypatch):
    """A type that code declares, as stored."""
    monkeypatch.setitem(declarations, METHOD, Declaration(METHOD, {"priority": 5}))
    tasktypes.ensure([METHOD])
    return TaskType.objects.get(method=METHOD)


@pytest.fixture
def rings(monkeypatch):
    """How often the bell was rung."""
    heard = []
    monkeypatch.setattr(bell, "ring", lambda: heard.append(1))
    return heard


def form_of(client, one=None, **changes):
    """Return what a person who changes one field sends."""
    url = page_url(one) if one else reverse("admin:taskcontrol_tasktype_add")
    fields = client.get(url).context["adminform"].form
    values = {name: fields[name].value() for name in fields.fields}
    values = {name: "" if value is None else value for name, value in values.items()}
    ticked = {name: "on" for name, value in values.items() if value is True}
    values = {name: value for name, value in values.items() if not isinstance(value, bool)}
    return url, {**values, **ticked, **changes}


# Who may what


def test_without_a_permission_there_are_no_types(staff, viewer):
    one = make_type()

    for client in (staff, viewer):
        assert client.get(URL).status_code == 403
        assert client.get(page_url(one)).status_code == 403
        for button in ("pause", "resume", "reset"):
            assert client.post(page_url(one, button)).status_code == 403


def test_who_may_only_look_gets_no_buttons(log_in):
    client, one = log_in("reader", "view_tasktype"), make_type()

    page = text_of(client.get(page_url(one)))

    for button in ("pause", "resume", "reset"):
        assert page_url(one, button) not in page
        assert client.post(page_url(one, button)).status_code == 403
    assert not LogEntry.objects.exists()


# Editing


def test_a_change_is_saved_recorded_and_rings_the_bell(
    keeper, rings, django_capture_on_commit_callbacks
):
    one = make_type(concurrency_limit=1)
    url, form = form_of(keeper, one, concurrency_limit="3", priority="7", queue="long")

    with django_capture_on_commit_callbacks(execute=True):
        response = keeper.post(url, form)

    assert response.status_code == 302
    one.refresh_from_db()
    assert (one.concurrency_limit, one.priority, one.queue) == (3, 7, "long")
    assert LogEntry.objects.get().user == keeper.user
    assert rings


def test_a_type_is_added_by_hand_and_its_method_is_fixed_then(keeper):
    url, form = form_of(keeper, method=METHOD, concurrency_limit="2")
    assert keeper.post(url, form).status_code == 302
    one = TaskType.objects.get(method=METHOD)
    assert (one.is_standard, one.atomic, one.backoff) == (False, None, None)

    url, form = form_of(keeper, one, method="other.method", is_standard="on")
    keeper.post(url, form)

    one.refresh_from_db()
    assert (one.method, one.is_standard) == (METHOD, False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timeout", "0"),
        ("timeout", "-1"),
        ("timeout", "99999999999"),
        ("retry_delay", "-1"),
        ("retry_delay", "nan"),
        ("priority", "99999"),
        ("concurrency_limit", "-1"),
        ("rate_limit", "10 a minute"),
        ("rate_limit", "0/m"),
        ("max_retries", "99999"),
        ("queue", "nowhere"),
        ("backoff", "{"),
        ("backoff", '{"factor": 0}'),
        ("backoff", "5"),
        ("retry_on", '["no.such.Error"]'),
        ("discard_on", '{"a": 1}'),
        ("retention_days", '{"Started": 1}'),
        ("retention_days", '{"Finished": -1}'),
        ("retention_days", "7"),
        ("description", "x" * 301),
        ("description", "a\0b"),
        ("on_lost", "explode"),
        ("atomic", "perhaps"),
    ],
)
def test_nonsense_is_refused_with_a_sentence_at_its_field(keeper, field, value):
    one = make_type()
    url, form = form_of(keeper, one, **{field: value})

    response = keeper.post(url, form)

    assert list(response.context["errors"].data)
    assert response.status_code == 200
    assert response.context["adminform"].form.errors[field]


def test_policies_are_stored_as_code_would_store_them(keeper):
    one = make_type()
    url, form = form_of(
        keeper,
        one,
        backoff='{"factor": 3}',
        retry_on='["ConnectionError", "json.JSONDecodeError"]',
        discard_on='"KeyError"',
        retention_days='{"Finished": 0.5, "Failed": null}',
    )

    assert keeper.post(url, form).status_code == 302

    one.refresh_from_db()
    assert one.backoff == {"factor": 3.0, "max": 3600.0, "jitter": True}
    assert one.retry_on == ["builtins.ConnectionError", "json.decoder.JSONDecodeError"]
    assert one.discard_on == ["builtins.KeyError"]
    assert one.retention_days == {"Finished": 0.5, "Failed": None}


@pytest.mark.parametrize(("chosen", "kept"), [("", None), ("True", True), ("False", False)])
def test_whether_bodies_are_atomic_is_said_or_left_to_the_site(keeper, chosen, kept):
    one = make_type(atomic=True)
    url, form = form_of(keeper, one, atomic=chosen)

    keeper.post(url, form)

    one.refresh_from_db()
    assert one.atomic is kept


def test_a_queue_that_is_no_longer_known_stays_chosen(keeper):
    one = make_type(queue="of-old")

    url, form = form_of(keeper, one, priority="3")

    assert keeper.post(url, form).status_code == 302
    one.refresh_from_db()
    assert (one.queue, one.priority) == ("of-old", 3)


# Standard types


def test_a_standard_type_has_no_way_to_be_deleted(keeper, declared):
    assert page_url(declared, "delete") not in text_of(keeper.get(page_url(declared)))
    response = keeper.post(page_url(declared, "delete"), {"post": "yes"})

    assert response.status_code == 403
    assert TaskType.objects.filter(pk=declared.pk).exists()


@pytest.mark.parametrize("confirmed", [{}, {"post": "yes"}])
def test_standard_types_among_many_refuse_the_deletion_of_all_with_the_sentence(
    keeper, declared, confirmed
):
    other = make_type()
    keys = [declared.pk, other.pk]

    response = keeper.post(
        URL,
        {"action": "delete_selected", "_selected_action": keys, "index": 0, **confirmed},
    )

    assert f"Standard task types cannot be deleted or renamed: {METHOD}." in text_of(
        response
    )
    assert TaskType.objects.filter(pk__in=keys).count() == 2


def test_a_type_that_became_standard_since_the_question_is_not_deleted(
    keeper, declared, monkeypatch
):
    monkeypatch.setattr(
        TaskTypeAdmin, "get_deleted_objects", lambda *_: ([], {}, set(), [])
    )
    form = {"action": "delete_selected", "_selected_action": [declared.pk], "post": "yes"}

    assert keeper.post(URL, {**form, "index": 0}).status_code == 403
    assert TaskType.objects.filter(pk=declared.pk).exists()


def test_ordinary_types_are_deleted_one_by_one_and_together(keeper):
    one, two = make_type("a.b"), make_type("a.c")

    keeper.post(page_url(one, "delete"), {"post": "yes"})
    keeper.post(
        URL, {"action": "delete_selected", "_selected_action": [two.pk], "post": "yes"}
    )

    assert not TaskType.objects.filter(pk__in=[one.pk, two.pk]).exists()


def test_where_they_are_not_protected_standard_types_can_go(keeper, declared, conf):
    conf(PROTECT_STANDARD_TYPES=False)

    assert text_of(keeper.get(page_url(declared, "delete")))
    keeper.post(page_url(declared, "delete"), {"post": "yes"})

    assert not TaskType.objects.filter(pk=declared.pk).exists()


# What code says


def test_the_list_and_the_page_say_what_a_person_changed(keeper, declared):
    make_type("a.b")
    declared.priority = 9
    declared.save()

    listed = text_of(keeper.get(URL, {"o": ""}))
    page = text_of(keeper.get(page_url(declared)))

    assert "code, changed by hand" in listed
    assert "not in code" in listed
    line = '<th scope="row">priority</th><td>5</td>'
    assert line in page
    assert page.count("changed by hand") == 3


def test_a_type_whose_code_nobody_has_imported_yet_says_so(keeper):
    one = make_type(declared=None)

    for url in (URL, page_url(one)):
        assert "not known yet" in text_of(keeper.get(url))


@pytest.mark.parametrize("way", ["button", "action"])
def test_reset_brings_back_what_code_declares(keeper, declared, way):
    declared.priority, declared.timeout = 9, 17
    declared.save()

    if way == "button":
        response = keeper.post(page_url(declared, "reset"), follow=True)
        assert messages_of(response) == ["Reset to what code declares."]
    else:
        keys = list(TaskType.objects.values_list("pk", flat=True))
        form = {"action": "reset_types", "_selected_action": keys, "index": 0}
        response = keeper.post(URL, form, follow=True)
        assert messages_of(response)[0].startswith("1 reset")

    declared.refresh_from_db()
    assert (declared.priority, declared.timeout) == (5, None)
    assert LogEntry.objects.count() == 1
    assert page_url(declared, "reset") not in text_of(keeper.get(page_url(declared)))


def test_reset_in_a_process_that_has_not_imported_the_code_goes_by_the_stored_one(
    keeper, declared, monkeypatch
):
    monkeypatch.delitem(declarations, METHOD)
    TaskType.objects.filter(pk=declared.pk).update(priority=9)

    keeper.post(page_url(declared, "reset"))

    declared.refresh_from_db()
    assert (declared.priority, declared.declared) == (5, {"priority": 5})


# Pause


def test_a_type_is_paused_and_resumed_by_its_buttons(keeper):
    one = make_type()

    paused = keeper.post(page_url(one, "pause"), {"reason": "too many mails"}, follow=True)
    assert messages_of(paused) == ["Paused: too many mails"]
    one.refresh_from_db()
    assert (one.paused_by, one.paused_reason) == (keeper.user, "too many mails")
    assert "too many mails" in text_of(keeper.get(page_url(one)))
    assert "Paused</span>" in text_of(keeper.get(URL))

    resumed = keeper.post(page_url(one, "resume"), follow=True)
    assert messages_of(resumed) == ["Resumed."]
    one.refresh_from_db()
    assert (one.paused_at, one.paused_by, one.paused_reason) == (None, None, "")
    assert LogEntry.objects.count() == 2


def test_a_pause_may_have_an_end(keeper):
    one = make_type()

    response = keeper.post(
        page_url(one, "pause"), {"until": "2999-01-02T03:04"}, follow=True
    )

    assert messages_of(response) == ["Paused until 2999-01-02 03:04:00 UTC."]
    assert "until <time" in text_of(response)
    assert WaitInterval.objects.get().to_at.year == 2999


@pytest.mark.parametrize(
    "until", ["yesterday", "2001-01-01T00:00", "\0", "9999-99-99T00:00"]
)
def test_a_pause_until_nonsense_is_refused_with_a_sentence(keeper, until):
    one = make_type()

    response = keeper.post(page_url(one, "pause"), {"until": until}, follow=True)

    assert len(messages_of(response)) == 1
    one.refresh_from_db()
    assert one.paused_at is None
    assert not LogEntry.objects.exists()


def test_saving_the_form_does_not_touch_the_pause(keeper):
    one = make_type(paused_at=seconds_ago(9), paused_reason="wait")

    url, form = form_of(keeper, one, priority="3")
    keeper.post(url, form)

    one.refresh_from_db()
    assert (one.priority, one.paused_reason) == (3, "wait")
    assert one.paused_at is not None


# The list


def test_the_list_counts_the_places_that_each_type_holds(keeper):
    make_type("a.b", concurrency_limit=3)
    for status in (Status.QUEUED, Status.STARTED, Status.PENDING):
        make_task(status, method="a.b")

    assert "2 of 3" in text_of(keeper.get(URL))


def test_the_list_takes_as_many_queries_for_fifty_rows_as_for_one(keeper):
    counts = []
    for number in (1, 49):
        for n in range(number):
            make_type(f"m{number}.m{n}", concurrency_limit=n)
        keeper.get(URL)
        with CaptureQueriesContext(connection) as queries:
            text_of(keeper.get(list_url("tasktype")))
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 10


def test_hostile_text_is_shown_as_text(boss):
    one = make_type("a.<script>b", description="<script>", paused_at=seconds_ago(1))
    TaskType.objects.filter(pk=one.pk).update(paused_reason="<script>\u202e")

    for url in (URL, page_url(one)):
        assert "<script>\u202e" not in text_of(boss.get(url))
        assert "a.<script>b" not in text_of(boss.get(url))


# How its tasks went


def test_the_last_day_of_a_type_is_told_in_the_list_and_on_its_page(boss):
    one = make_type("a.b", usual_seconds=2.5)
    for number, status in enumerate([Status.FINISHED] * 8 + [Status.FAILED] * 2):
        at = seconds_ago(3600)
        make_task(
            status, method="a.b", ended_at=at, time_taken=timedelta(seconds=number + 1)
        )
    make_task(Status.FINISHED, method="a.b", ended_at=seconds_ago(90_000))
    make_task(Status.FAILED, method="other", ended_at=seconds_ago(3600))
    dispatcher_state()
    roll_up(seconds=30)

    listed, page = text_of(boss.get(URL)), text_of(boss.get(page_url(one)))

    tasks = "/admin/taskcontrol/tasklog/?method=a.b"
    assert f'<a href="{tasks}">10</a>' in listed
    assert (
        f'<a class="tc-why" href="{tasks}&amp;status__exact=Failed">2 failed</a>' in listed
    )
    assert "2 (20.0 %)" in page
    assert "2.5 s" in page
    half, most = re.findall(r"([\d.]+) s, ([\d.]+) s", listed)[0]
    assert float(half) == pytest.approx(5, rel=0.1)
    assert float(most) == pytest.approx(10, rel=0.1)


def test_a_type_whose_tasks_did_nothing_lately_says_nothing_of_their_runs(boss):
    one = make_type("a.b")
    assert re.search(r'field-run_time">-<', text_of(boss.get(URL)))
    assert text_of(boss.get(page_url(one))).count("<dd>-</dd>") == 2


# Who holds its places


def test_the_page_names_the_holders_that_a_person_may_see(log_in, boss):
    one = make_type("a.b", concurrency_limit=3)
    reader = log_in("reader", "view_tasktype")
    mine = make_task(Status.STARTED, method="a.b", created_by=reader.user)
    theirs = make_task(Status.QUEUED, method="a.b", job_name="secret")

    page = text_of(reader.get(page_url(one)))
    whole = text_of(boss.get(page_url(one)))

    assert "2 of 3" in page
    assert page_url(mine) in page
    assert "and 1 other" in page
    assert "secret" not in page
    assert page_url(theirs) in whole
    assert "other</p>" not in whole


def test_only_the_first_holders_are_named(boss):
    one = make_type("a.b")
    for _ in range(MOST_HOLDERS + 3):
        make_task(Status.STARTED, method="a.b")
    assert "and 3 others" in text_of(boss.get(page_url(one)))


def test_a_type_whose_tasks_hold_nothing_says_so(boss):
    page = text_of(boss.get(page_url(make_type("a.b", concurrency_limit=2))))
    assert "0 of 2" in page
    assert "None of its tasks is sent or running." in page


def test_a_rate_shows_how_much_of_it_was_used(boss):
    one = make_type("tests.tasks.nothing", rate_limit="3/m", concurrency_limit=9)
    sent = {one.method: [[microseconds_now("default"), 2]]}
    dispatcher_state()
    DispatcherState.objects.update(sent=sent)

    page = text_of(boss.get(page_url(one)))

    assert "At most 3 a minute may start; 2 did within the last period." in page
    assert "may start" not in text_of(boss.get(page_url(make_type("a.b"))))


def test_a_rate_set_by_hand_goes_back_to_what_code_declares(keeper, declared, rings):
    TaskType.objects.update(rate_limit="9/h")

    told = keeper.post(page_url(declared, "reset"), {"field": "rate_limit"}, follow=True)

    assert messages_of(told) == ["Reset rate_limit to what code declares: -, was 9/h."]
    assert TaskType.objects.get(pk=declared.pk).rate_limit == ""


# One value goes back


def test_one_value_goes_back_to_what_code_declares(keeper, declared, rings):
    TaskType.objects.update(priority=9, concurrency_limit=4)

    told = keeper.post(page_url(declared, "reset"), {"field": "priority"}, follow=True)

    declared.refresh_from_db()
    assert (declared.priority, declared.concurrency_limit) == (5, 4)
    said = "Reset priority to what code declares: 5, was 9."
    assert messages_of(told) == [said]
    assert LogEntry.objects.get().change_message == said


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("priority", "Nothing was to be done."),
        ("method", "There is no such value of a type."),
        ("declared", "There is no such value of a type."),
    ],
)
def test_what_is_as_code_says_or_no_value_is_not_reset(keeper, declared, field, told):
    response = keeper.post(page_url(declared, "reset"), {"field": field}, follow=True)
    assert messages_of(response) == [told]
    assert not LogEntry.objects.exists()


def test_who_may_not_change_a_type_resets_nothing(log_in, declared):
    TaskType.objects.update(priority=9)
    reader = log_in("reader", "view_tasktype", "run_tasktype")
    page = text_of(reader.get(page_url(declared)))

    assert "changed by hand" in page
    assert page_url(declared, "reset") not in page
    for data in ({}, {"field": "priority"}):
        assert reader.post(page_url(declared, "reset"), data).status_code == 403
    with pytest.raises(NotPermitted, match="reset priority of the type"):
        tasktypes.reset_one(declared, "priority", user=reader.user)
    declared.refresh_from_db()
    assert declared.priority == 9


@pytest.mark.parametrize("field", ["backoff", "retry_on", "retention_days"])
@pytest.mark.parametrize("nonsense", NONSENSE_IN_JSON)
def test_nonsense_in_json_is_told_at_its_box(boss, field, nonsense):
    one = make_type(METHOD)

    response = boss.post(
        page_url(one), {"method": METHOD, "priority": "1", field: nonsense}
    )

    assert field in response.context["adminform"].form.errors
    assert response.status_code == 200
