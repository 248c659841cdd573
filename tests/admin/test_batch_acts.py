"""What a person does to several batches at once: asked first, told honestly, on record."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from taskcontrol import batches
from taskcontrol.models import TaskBatch, TaskEvent
from taskcontrol.status import Status
from tests.admin.conftest import messages_of, page_url, text_of
from tests.factories import make_batch, make_task

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

URL = "/admin/taskcontrol/taskbatch/"
#: List action: its permission, what the members become, and the sentence of two batches.
ACTIONS = {
    "cancel_batches": (
        "cancel_tasklog",
        {"Canceled": 3, "Failed": 1},
        "6 tasks",
        "canceled",
    ),
    "pause_batches": (
        "prioritize_tasklog",
        {"Paused": 2, "Started": 1},
        "2 tasks",
        "paused",
    ),
    "resume_batches": ("prioritize_tasklog", {"Pending": 2}, "2 tasks", "resumed"),
    "retry_batches": ("retry_tasklog", {"Pending": 2, "Paused": 1}, "2 tasks", "retried"),
}
FILLED = (Status.PENDING, Status.PAUSED, Status.STARTED, Status.FAILED)


def filled(key: str, *statuses: Status, **columns) -> TaskBatch:
    """Store a batch with a member in each of these statuses."""
    statuses = statuses or FILLED
    for status in statuses:
        make_task(status, batch_id=key)
    return make_batch(key, total=len(statuses), **columns)


def choose(action: str, *chosen: TaskBatch, **more):
    """Return the form of a list action as the list sends it."""
    keys = [batch.pk for batch in chosen]
    return {"action": action, "_selected_action": keys, "index": 0, **more}


def confirm(action: str, *chosen: TaskBatch, **more):
    """Return the form of the page that asks."""
    return choose(action, *chosen, confirmed="yes", **more)


@pytest.fixture
def overseer(log_in):
    """Sees all batches, and does nothing."""
    return log_in("overseer", "view_taskbatch", "view_tasklog")


@pytest.mark.parametrize("action", ACTIONS)
def test_a_list_action_asks_first_and_then_does_it_to_each(log_in, action):
    permission, becomes, tasks, done = ACTIONS[action]
    client = log_in("doer", "view_taskbatch", permission)
    chosen = [filled("a/b"), filled('"c"')]
    other = filled("other")
    before = batches.counts(other.pk)

    question = client.post(URL, choose(action, *chosen))
    assert "2 batches are selected" in text_of(question)
    assert sum(line.number for line in question.context["lines"]) == int(tasks.split()[0])
    assert batches.counts(chosen[0].pk) == before

    answer = client.post(URL, confirm(action, *chosen, reason="as agreed"), follow=True)

    assert messages_of(answer) == [f"{tasks} of 2 batches {done}."]
    for batch in chosen:
        numbers = batches.counts(batch.pk)
        assert {status: numbers[status] for status in becomes} == becomes
        entry, asked = LogEntry.objects.filter(object_id=batch.pk)
        assert entry.user == asked.user == client.user
        assert " asked" in asked.change_message
        assert done in entry.change_message
        assert entry.change_message.endswith(": as agreed") is (
            action in {"cancel_batches", "pause_batches"}
        )
    assert TaskEvent.objects.filter(actor=client.user).count() == int(tasks.split()[0])
    assert batches.counts(other.pk) == before


@pytest.mark.parametrize("action", ACTIONS)
def test_without_the_permission_a_list_action_is_not_offered_and_not_taken(
    overseer, action
):
    batch = filled("b")
    before = batches.counts(batch.pk)

    assert f'value="{action}"' not in text_of(overseer.get(URL))
    for form in (choose(action, batch), confirm(action, batch)):
        overseer.post(URL, form, follow=True)

    assert batches.counts(batch.pk) == before
    assert not LogEntry.objects.exists()


def test_a_form_of_another_site_does_nothing(boss):
    batch = filled("b")
    client = Client(enforce_csrf_checks=True)
    client.force_login(boss.user)

    assert client.post(URL, confirm("cancel_batches", batch)).status_code == 403

    assert batches.counts(batch.pk)[Status.CANCELED] == 0


def test_what_does_not_fit_is_left_alone_and_told(boss):
    going, over = filled("going"), filled("over", Status.FINISHED, Status.FINISHED)

    question = boss.post(URL, choose("cancel_batches", going, over))
    assert "left alone" in text_of(question)
    assert "Cancel: 1 batch<" in text_of(question)
    answer = boss.post(URL, confirm("cancel_batches", going, over), follow=True)

    assert messages_of(answer) == ["3 tasks of 1 batch canceled, 1 left alone."]
    assert not LogEntry.objects.filter(object_id=over.pk).exists()


def test_nothing_to_do_disables_the_button(boss):
    over = filled("over", Status.FINISHED)

    page = text_of(boss.post(URL, choose("pause_batches", over)))

    assert 'type="submit" disabled>Pause: 0 batches<' in page


def test_the_creator_acts_on_visible_batches_alone(log_in):
    client = log_in("doer", "cancel_tasklog")
    own, other = filled("own", created_by=client.user), filled("other")

    client.post(URL, confirm("cancel_batches", own, other))

    assert batches.counts(own.pk)[Status.CANCELED] == 3
    assert batches.counts(other.pk)[Status.CANCELED] == 0


def test_a_permission_that_the_room_misses_is_told(overseer, monkeypatch):
    batch = filled("b")
    monkeypatch.setattr(
        "taskcontrol.screens.batchacts.ActsOnBatches.has_cancel_permission",
        lambda self, request: True,
    )

    answer = overseer.post(URL, confirm("cancel_batches", batch), follow=True)

    assert messages_of(answer) == ["0 tasks of 0 batches canceled, 1 not permitted."]
    assert batches.counts(batch.pk)[Status.CANCELED] == 0
    assert not LogEntry.objects.exists()


def test_an_act_that_is_cut_in_the_middle_is_on_record(boss, monkeypatch):
    batch = filled("b")
    monkeypatch.setattr("taskcontrol.batchcontrol._any_left", lambda members: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        boss.post(page_url(batch, "cancel"), {"reason": "wrong import"})

    batch.refresh_from_db()
    assert batch.canceled_at is not None
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (boss.user, "b")
    assert entry.change_message == "Cancel asked: wrong import"


def test_a_batch_that_goes_meanwhile_is_told(boss, monkeypatch):
    batch, stays = filled("b"), filled("stays")
    find = batches.find_batch

    def gone(key):
        if key == batch.pk:
            TaskBatch.objects.filter(pk=key).delete()
        return find(key)

    monkeypatch.setattr("taskcontrol.batchcontrol.find_batch", gone)

    answer = boss.post(URL, confirm("cancel_batches", batch, stays), follow=True)

    assert messages_of(answer) == ["3 tasks of 1 batch canceled, 1 no longer there."]


def test_all_that_match_are_taken_when_they_are_few(boss, monkeypatch):
    monkeypatch.setattr("taskcontrol.screens.batchacts.MOST_AT_ONCE", 2)
    chosen = [filled("a"), filled("b")]

    question = boss.post(URL, choose("pause_batches", chosen[0], select_across=1))
    assert question.context["keys"] == ["b", "a"]

    filled("c")
    answer = boss.post(
        URL, choose("pause_batches", chosen[0], select_across=1), follow=True
    )
    assert messages_of(answer) == ["At most 2 batches at once: select fewer."]


def test_keys_that_no_list_has_sent_are_refused(boss):
    batch = filled("b")

    for keys in (["b", "\0"], [str(number) for number in range(51)]):
        form = {**confirm("cancel_batches", batch), "_selected_action": keys}
        assert boss.post(URL, form).status_code == 400

    assert batches.counts(batch.pk)[Status.CANCELED] == 0
