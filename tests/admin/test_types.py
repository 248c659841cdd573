"""The screen of the task types: editing, protection of the standard ones, reset, pause."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from taskcontrol import bell, tasktypes
from taskcontrol.models import TaskType, WaitInterval
from taskcontrol.registry import Declaration, declarations
from taskcontrol.screens.tasktypes import TaskTypeAdmin
from taskcontrol.status import Status
from tests.admin.conftest import list_url, messages_of, page_url, text_of
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
