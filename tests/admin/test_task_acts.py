"""What a person does to tasks from admin: buttons, list actions, their counts and traces."""

from __future__ import annotations

from contextlib import closing

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

import taskcontrol
from taskcontrol.admin import TaskLogAdmin
from taskcontrol.arguments import decode
from taskcontrol.context import running
from taskcontrol.currenttask import CurrentTask
from taskcontrol.exceptions import Discard
from taskcontrol.models import TaskAttempt, TaskBatch, TaskEvent, TaskKey, TaskLog
from taskcontrol.screens.bulkacts import act_on_matching
from taskcontrol.screens.taskverbs import PAUSE, act_on_all
from taskcontrol.status import Status
from tests.admin.conftest import messages_of, page_url, text_of
from tests.factories import make_task, make_type, make_user, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

URL = "/admin/taskcontrol/tasklog/"
#: Button: from which status, to which, with which permission.
BUTTONS = {
    "cancel": (Status.PENDING, Status.CANCELED, "cancel_tasklog"),
    "retry": (Status.FAILED, Status.PENDING, "retry_tasklog"),
    "retry_now": (Status.CANCELED, Status.PENDING, "retry_tasklog"),
    "pause": (Status.PENDING, Status.PAUSED, "prioritize_tasklog"),
    "resume": (Status.PAUSED, Status.PENDING, "prioritize_tasklog"),
}
#: List action: the same, and the word of the outcome.
ACTIONS = {
    "cancel_tasks": (*BUTTONS["cancel"], "canceled"),
    "retry_tasks": (*BUTTONS["retry"], "retried"),
    "retry_tasks_now": (*BUTTONS["retry_now"], "retried, first in line"),
    "pause_tasks": (*BUTTONS["pause"], "paused"),
    "resume_tasks": (*BUTTONS["resume"], "resumed"),
    "to_front_tasks": (
        *(Status.PENDING, Status.PENDING),
        *("prioritize_tasklog", "put to the front"),
    ),
    "erase_tasks": (Status.FINISHED, None, "delete_tasklog", "deleted"),
}


def status_of(task) -> str | None:
    return TaskLog.objects.filter(pk=task.pk).values_list("status", flat=True).first()


def choose(action: str, *tasks, **more):
    """Return the form of a list action as the list sends it."""
    keys = [task.pk for task in tasks]
    return {"action": action, "_selected_action": keys, "index": 0, **more}


def confirm(action: str, *tasks, **more):
    """Return the form of the page that asks."""
    keys = [task.pk for task in tasks]
    return {"action": action, "_selected_action": keys, "confirmed": "yes", **more}


# The buttons of the page


@pytest.mark.parametrize("verb", BUTTONS)
def test_a_button_does_it_as_the_person_and_leaves_a_trace(log_in, verb):
    old, new, permission = BUTTONS[verb]
    client = log_in("doer", "view_tasklog", permission)
    task = make_task(old)
    assert page_url(task, verb) in text_of(client.get(page_url(task)))

    response = client.post(page_url(task, verb), {"reason": "as agreed"}, follow=True)

    assert status_of(task) == new
    assert response.redirect_chain == [(page_url(task), 302)]
    event = TaskEvent.objects.get(task=task)
    assert (event.actor_id, event.old, event.new) == (client.user.pk, old, new)
    entry = LogEntry.objects.get()
    assert (entry.user_id, entry.object_id) == (client.user.pk, str(task.pk))
    assert messages_of(response) == [entry.change_message]
    assert text_of(client.get(page_url(task, "history")))


@pytest.mark.parametrize("verb", BUTTONS)
def test_without_the_permission_there_is_no_button_and_no_way(viewer, verb):
    old, _, _ = BUTTONS[verb]
    task = make_task(old)

    assert page_url(task, verb) not in text_of(viewer.get(page_url(task)))
    assert viewer.post(page_url(task, verb)).status_code == 403

    assert status_of(task) == old
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("verb", BUTTONS)
def test_a_button_is_pressed_and_never_followed_as_a_link(operator, verb):
    task = make_task(BUTTONS[verb][0])

    assert operator.get(page_url(task, verb)).status_code == 405
    assert status_of(task) == BUTTONS[verb][0]


@pytest.mark.parametrize("verb", BUTTONS)
def test_a_form_of_another_site_presses_nothing(operator, verb):
    task = make_task(BUTTONS[verb][0])
    stranger = Client(enforce_csrf_checks=True)
    stranger.force_login(operator.user)

    assert stranger.post(page_url(task, verb)).status_code == 403
    assert status_of(task) == BUTTONS[verb][0]


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("verb", BUTTONS)
def test_a_page_that_was_overtaken_is_told_and_changes_nothing_wrong(
    operator, verb, status
):
    task = make_task(status)

    response = operator.post(page_url(task, verb), follow=True)

    assert response.status_code == 200
    (told,) = messages_of(response)
    moved = status_of(task) != status
    assert moved is LogEntry.objects.exists()
    assert moved or f"Task {task.pk} is {status}; only" in told


def test_the_buttons_are_those_that_fit_the_status(operator):
    fitting = {}
    for status in Status:
        page = text_of(operator.get(page_url(task := make_task(status))))
        fitting[status] = {verb for verb in BUTTONS if page_url(task, verb) in page}

    assert fitting == {
        Status.PENDING: {"cancel", "pause"},
        Status.PAUSED: {"cancel", "resume"},
        Status.QUEUED: {"cancel"},
        Status.STARTED: {"cancel"},
        Status.FINISHED: set(),
        Status.FAILED: {"retry", "retry_now"},
        Status.CANCELED: {"retry", "retry_now"},
    }


def test_a_failed_task_whose_retry_is_due_can_be_canceled(operator):
    task = make_task(Status.FAILED, retry_at=seconds_ago(-60))

    assert page_url(task, "cancel") in text_of(operator.get(page_url(task)))
    operator.post(page_url(task, "cancel"))

    assert status_of(task) == Status.CANCELED


def test_a_reason_is_kept_clean_and_short(operator):
    task = make_task()

    operator.post(page_url(task, "cancel"), {"reason": "wrong\0month " + "x" * 500})

    reason = TaskLog.objects.get().ended_reason
    assert reason.startswith("wrong\ufffdmonth x")
    assert len(reason) <= 300


def test_the_owner_does_what_the_type_allows(staff):
    make_type(owner_may_cancel=True, owner_may_retry=False)
    task = make_task(created_by=staff.user)

    assert page_url(task, "cancel") in text_of(staff.get(page_url(task)))
    staff.post(page_url(task, "cancel"))
    assert status_of(task) == Status.CANCELED
    assert staff.post(page_url(task, "retry")).status_code == 403
    assert status_of(task) == Status.CANCELED


def test_the_task_of_another_person_is_not_there_to_press_on(staff):
    task = make_task(created_by=make_user())

    assert staff.post(page_url(task, "cancel")).status_code == 404
    assert status_of(task) == Status.PENDING


def test_after_the_act_one_comes_back_to_a_page_of_this_site_only(operator):
    task = make_task()

    inside = operator.post(page_url(task, "pause"), {"next": URL})
    outside = operator.post(page_url(task, "resume"), {"next": "https://evil.example/"})

    assert (inside.url, outside.url) == (URL, page_url(task))


# The list actions


@pytest.mark.parametrize("action", ACTIONS)
def test_a_list_action_asks_first_and_then_does_it(log_in, action):
    old, new, permission, done = ACTIONS[action]
    client = log_in("doer", "view_tasklog", permission)
    tasks = [make_task(old) for _ in range(3)]

    question = client.post(URL, choose(action, *tasks[:2]))
    assert "2 tasks are selected" in text_of(question)
    assert {status_of(task) for task in tasks} == {old}

    answer = client.post(URL, confirm(action, *tasks[:2], reason="enough"), follow=True)

    assert messages_of(answer) == [f"2 {done}."]
    assert [status_of(task) for task in tasks] == [new, new, old]
    assert LogEntry.objects.filter(user=client.user).count() == 2


def test_tasks_that_go_to_the_front_together_keep_their_order(operator):
    waiting = [make_task() for _ in range(4)]
    held = make_task(Status.PAUSED)
    ended = make_task(Status.FINISHED)

    form = confirm("to_front_tasks", waiting[3], waiting[1], held, ended)
    answer = operator.post(URL, form, follow=True)

    assert messages_of(answer) == ["3 put to the front, 1 already finished."]
    line = TaskLog.objects.exclude(pk=ended.pk).order_by("-at_front", "position", "pk")
    order = [waiting[1], waiting[3], held, waiting[0], waiting[2]]
    assert list(line.values_list("pk", flat=True)) == [task.pk for task in order]
    events = TaskEvent.objects.filter(kind=TaskEvent.Kind.REORDERED, actor=operator.user)
    assert {one.task_id for one in events} == {waiting[1].pk, waiting[3].pk, held.pk}


@pytest.mark.parametrize("action", ACTIONS)
def test_without_the_permission_a_list_action_is_not_offered_and_not_taken(viewer, action):
    old = ACTIONS[action][0]
    task = make_task(old)

    assert f'value="{action}"' not in text_of(viewer.get(URL))
    for form in (choose(action, task), confirm(action, task)):
        viewer.post(URL, form, follow=True)

    assert status_of(task) == old
    assert not LogEntry.objects.exists()


def test_the_page_that_asks_counts_by_status_what_fits_and_what_is_left_alone(operator):
    tasks = [
        make_task(status) for status in (Status.PENDING, Status.PENDING, Status.FINISHED)
    ]

    response = operator.post(URL, choose("cancel_tasks", *tasks))

    lines = response.context["forecast"].lines
    assert [(line.fitting, line.left) for line in lines] == [(2, 0), (0, 1)]
    assert "Cancel: 2 tasks" in text_of(response)


def test_the_counts_are_honest_about_what_moved_on_since_the_question(operator):
    pending, finished, gone = make_task(), make_task(), make_task()
    operator.post(URL, choose("cancel_tasks", pending, finished, gone))
    TaskLog.objects.filter(pk=finished.pk).delete()
    finished = make_task(Status.FINISHED, pk=finished.pk)
    TaskLog.objects.filter(pk=gone.pk).delete()

    # The list is filtered by the status that one of them has left.
    response = operator.post(
        f"{URL}?status__exact=Pending",
        confirm("cancel_tasks", pending, finished, gone),
        follow=True,
    )

    assert messages_of(response) == ["1 canceled, 1 already finished."]
    assert status_of(finished) == Status.FINISHED


def test_a_task_whose_key_another_one_has_is_not_retried_and_the_page_says_why(operator):
    options = {"method": "tests.tasks.nothing", "job_id": "nightly", "deduplicate": True}
    first = taskcontrol.enqueue(**options)
    taskcontrol.cancel(first)
    owner, other = taskcontrol.enqueue(**options), make_task(Status.CANCELED)

    alone = operator.post(page_url(first, "retry"), follow=True)
    both = operator.post(URL, confirm("retry_tasks", first, other), follow=True)

    assert messages_of(alone) == [
        f"Task {first.pk} cannot be retried: its key 'nightly' belongs to task {owner.pk} "
        "now, which is Pending and has not ended. Retry it when that has ended, or cancel "
        "that one first."
    ]
    assert messages_of(both) == ["1 retried, 1 left, since another has their key."]
    assert [status_of(task) for task in (first, other)] == [Status.CANCELED, Status.PENDING]


def test_a_person_acts_on_visible_tasks_alone(log_in):
    client = log_in("half", "cancel_tasklog")
    mine, other = make_task(created_by=client.user), make_task()

    response = client.post(URL, confirm("cancel_tasks", mine, other), follow=True)

    assert messages_of(response) == ["1 canceled."]
    assert status_of(other) == Status.PENDING


def test_all_that_match_are_pinned_when_the_question_is_asked_and_they_are_few(operator):
    tasks = [make_task() for _ in range(3)]

    question = operator.post(URL, choose("cancel_tasks", tasks[0], select_across=1))

    page = text_of(question)
    assert "3 tasks are selected" in page
    assert page.count('name="_selected_action"') == 3
    assert 'name="select_across"' not in page


@pytest.fixture
def few_at_once(monkeypatch):
    monkeypatch.setattr("taskcontrol.screens.acts.MOST_AT_ONCE", 2)


def all_that_match(client, action: str, url: str = URL, **more):
    """Ask for all that match and confirm; return the question, and the answer."""
    question = client.post(url, choose(action, make_task(queue="ask"), select_across=1))
    form = {"action": action, "_selected_action": [0], "select_across": 1}
    until = question.context["until"]
    answer = client.post(url, {**form, "confirmed": "yes", "until": until, **more})
    return question, answer


def run_for(user, row: TaskLog) -> str:
    """Run the body of ``row`` as its worker does."""
    carrier = make_task(Status.STARTED, created_by=user)
    with closing(CurrentTask(carrier)) as current, running(current):
        return act_on_matching(**decode(row.arguments))


background = pytest.mark.django_db(transaction=True, databases="__all__")


@background
def test_many_that_match_are_done_by_a_task_that_runs_as_the_person(operator, few_at_once):
    waiting = [make_task() for _ in range(3)]
    make_task(Status.FINISHED)
    question, answer = all_that_match(operator, "cancel_tasks", reason="wrong list")
    later = make_task()

    assert "So many are done in the background" in text_of(question)
    assert question.context["forecast"].number == "5"
    row = TaskLog.objects.get(method__endswith="act_on_matching")
    assert answer.url == page_url(row)
    assert (row.created_by_id, row.status) == (operator.user.pk, Status.PENDING)
    entry = LogEntry.objects.get(object_id=str(row.pk))
    assert entry.change_message == (
        "Started for all tasks that match everything: wrong list"
    )

    assert run_for(operator.user, row) == "4 canceled, 1 already finished."

    assert {status_of(task) for task in waiting} == {Status.CANCELED}
    assert [status_of(later), status_of(row)] == [Status.PENDING, Status.PENDING]
    event = TaskEvent.objects.filter(task=waiting[0]).latest("pk")
    assert (event.actor_id, event.detail) == (operator.user.pk, "wrong list")
    assert LogEntry.objects.filter(user=operator.user).count() == 5


@background
@pytest.mark.parametrize("action", ACTIONS)
def test_every_list_action_is_done_to_all_that_match(log_in, few_at_once, action):
    old, new, permission, done = ACTIONS[action]
    client = log_in("doer", "view_tasklog", permission)
    tasks = [make_task(old, event="these") for _ in range(3)]
    other = make_task(old)

    all_that_match(client, action, f"{URL}?event=these&p=1")
    row = TaskLog.objects.get(method__endswith="act_on_matching")

    assert run_for(client.user, row) == f"3 {done}."
    assert [status_of(task) for task in [*tasks, other]] == [new, new, new, old]


@background
def test_all_that_a_search_matches_are_meant_page_by_page(
    operator, few_at_once, monkeypatch
):
    monkeypatch.setattr("taskcontrol.screens.bulkacts.PAGE", 2)
    wanted = [
        make_task(Status.FAILED, error_message="E\nValueError: no such file")
        for _ in range(5)
    ]
    make_task(Status.FAILED, error_message="E\nValueError: another")

    all_that_match(operator, "retry_tasks", f'{URL}?q=error:"no such"')
    row = TaskLog.objects.get(method__endswith="act_on_matching")

    assert run_for(operator.user, row) == "5 retried."
    assert {status_of(task) for task in wanted} == {Status.PENDING}


@background
def test_the_newest_are_those_of_the_time_of_the_question(
    operator, few_at_once, monkeypatch
):
    monkeypatch.setattr("taskcontrol.screens.searching.NEWEST", 5)
    wanted = [make_task(queue="long") for _ in range(3)]
    all_that_match(operator, "cancel_tasks", f"{URL}?queue=long")
    row = TaskLog.objects.get(method__endswith="act_on_matching")
    later = [make_task(queue="long") for _ in range(5)]

    assert run_for(operator.user, row) == "3 canceled."
    assert {status_of(task) for task in wanted} == {Status.CANCELED}
    assert {status_of(task) for task in later} == {Status.PENDING}


@background
def test_a_site_that_a_worker_does_not_have_is_said(operator):
    carrier = make_task(Status.STARTED, created_by=operator.user)
    arguments = {"verb": "cancel", "query": "", "reason": "", "site": "other"}

    refused = pytest.raises(Discard, match="no admin site 'other'")
    with closing(CurrentTask(carrier)) as current, running(current), refused:
        act_on_matching(**arguments, until=seconds_ago(0))


@background
def test_a_permission_that_was_lost_meanwhile_is_missed_by_each_task(operator, few_at_once):
    tasks = [make_task() for _ in range(3)]
    all_that_match(operator, "cancel_tasks")
    row = TaskLog.objects.get(method__endswith="act_on_matching")
    operator.user.user_permissions.filter(codename="cancel_tasklog").delete()

    told = run_for(make_user("other", "view_tasklog"), row)

    assert told == "0 canceled, 4 not permitted."
    assert {status_of(task) for task in tasks} == {Status.PENDING}


@background
def test_who_sees_own_tasks_alone_acts_on_own_tasks_alone(log_in, few_at_once):
    client = log_in("half", "cancel_tasklog")
    mine = [make_task(created_by=client.user) for _ in range(3)]
    other = make_task()

    question, _ = all_that_match(client, "cancel_tasks")
    row = TaskLog.objects.get(method__endswith="act_on_matching")

    assert question.context["forecast"].number == "3"
    assert run_for(client.user, row) == "3 canceled."
    assert {status_of(task) for task in mine} == {Status.CANCELED}
    assert status_of(other) == Status.PENDING


def test_without_the_permission_all_that_match_are_not_acted_on(viewer, few_at_once):
    for _ in range(3):
        make_task()

    form = {"action": "cancel_tasks", "_selected_action": [0], "select_across": 1}
    viewer.post(URL, {**form, "confirmed": "yes", "until": "2030-01-01T00:00:00Z"})

    assert not TaskLog.objects.filter(method__endswith="act_on_matching").exists()


def test_nobody_acts_on_all_that_match_as_the_system():
    arguments = {"verb": "cancel", "query": "", "reason": "", "site": "admin"}
    carrier = make_task(Status.STARTED)

    refused = pytest.raises(Discard, match="as a person")
    with closing(CurrentTask(carrier)) as current, running(current), refused:
        act_on_matching(**arguments, until=seconds_ago(0))
    with pytest.raises(Discard, match="as a person"):
        act_on_matching(**arguments, until=seconds_ago(0))


@pytest.mark.parametrize("until", ["", "soon", "2030-01-01T00:00:00", "2030-99-01"])
def test_a_form_that_does_not_say_when_it_was_made_is_refused(operator, until):
    form = {"action": "cancel_tasks", "_selected_action": [0], "select_across": 1}

    response = operator.post(URL, {**form, "confirmed": "yes", "until": until})

    assert response.status_code == 400
    assert not TaskLog.objects.exists()


def test_the_question_says_that_a_suspended_dispatcher_delays_it(operator, few_at_once):
    for _ in range(3):
        make_task()
    taskcontrol.toggle_dispatcher(enable=False)

    question, _ = all_that_match(operator, "cancel_tasks")

    assert "that task begins when it is resumed" in text_of(question)


def test_more_than_are_counted_are_told_as_more(operator, few_at_once, monkeypatch):
    monkeypatch.setattr("taskcontrol.screens.bulkacts.MOST_COUNTED", 3)
    for _ in range(5):
        make_task()

    question, _ = all_that_match(operator, "cancel_tasks")

    assert "More than 3 tasks match" in text_of(question)


def test_nothing_to_do_disables_the_button(operator):
    response = operator.post(URL, choose("resume_tasks", make_task(Status.FINISHED)))

    assert 'type="submit" disabled>Resume: 0 tasks<' in text_of(response)


@pytest.mark.parametrize("key", ["x", "-1", "9" * 40, "²", ""])
def test_keys_that_no_list_has_sent_are_refused(operator, key):
    task = make_task()

    for form in (choose("cancel_tasks", task), confirm("cancel_tasks", task)):
        form["_selected_action"].append(key)
        assert operator.post(URL, form).status_code == 400

    assert status_of(task) == Status.PENDING


def test_acting_on_many_costs_a_fixed_number_of_queries_for_each(operator):
    def cost(number: int) -> int:
        tasks = [make_task() for _ in range(number)]
        operator.get(URL)
        with CaptureQueriesContext(connection) as queries:
            operator.post(URL, confirm("cancel_tasks", *tasks))
        return len(queries)

    one, five = cost(1), cost(5)

    assert (five - one) / 4 <= 13


def test_a_room_that_refuses_and_a_task_that_is_gone_are_counted_as_such():
    refused, gone = make_task(), make_task()
    TaskLog.objects.filter(pk=gone.pk).delete()
    eve, ann = make_user("eve"), make_user("ann", "prioritize_tasklog")

    assert act_on_all(PAUSE, [refused], eve, "") == {"not permitted": 1}
    assert act_on_all(PAUSE, [gone], ann, "") == {"no longer there": 1}


def test_a_task_that_goes_while_its_button_is_pressed_is_not_found(operator, monkeypatch):
    task = make_task()

    def read_and_lose(self, request, key, *_):
        row = TaskLog.objects.get(pk=key)
        TaskLog.objects.filter(pk=key).delete()
        return row

    monkeypatch.setattr(TaskLogAdmin, "get_object", read_and_lose)

    assert operator.post(page_url(task, "pause")).status_code == 404


# Deleting


def test_ended_tasks_are_deleted_with_what_belongs_to_them(log_in):
    client = log_in("eraser", "view_tasklog", "delete_tasklog")
    batch = TaskBatch.objects.create(id="b", total=1)
    ended = make_task(Status.FINISHED, batch_id=batch.pk)
    running = make_task(Status.STARTED)
    retried = make_task(Status.FAILED, retry_at=seconds_ago(-9))
    stopping = make_task(Status.CANCELED, occupies=True)
    for task in (ended, running):
        TaskAttempt.objects.create(task=task, attempt=1, status="Failed")
        TaskEvent.objects.create(task=task, kind="retried")
        TaskKey.objects.create(task=task, key=str(task.pk))

    response = client.post(
        URL, confirm("erase_tasks", ended, running, retried, stopping), follow=True
    )

    assert messages_of(response) == ["1 deleted, 3 not ended yet."]
    left = [model.objects.count() for model in (TaskLog, TaskAttempt, TaskEvent, TaskKey)]
    assert left == [3, 1, 1, 1]
    batch.refresh_from_db()
    assert batch.pruned == {"Finished": 1}


def test_stock_admins_own_deletion_of_many_is_gone(boss):
    task = make_task(Status.FINISHED)

    assert "delete_selected" not in text_of(boss.get(URL))
    boss.post(URL, choose("delete_selected", task, post="yes"))

    assert TaskLog.objects.exists()


def test_one_ended_task_is_deleted_from_its_page(log_in):
    client = log_in("eraser", "view_tasklog", "delete_tasklog")
    task = make_task(Status.FINISHED)
    TaskAttempt.objects.create(task=task, attempt=1, status="Failed")

    assert page_url(task, "delete") in text_of(client.get(page_url(task)))
    assert text_of(client.get(page_url(task, "delete")))
    client.post(page_url(task, "delete"), {"post": "yes"})

    assert not TaskLog.objects.exists()
    assert not TaskAttempt.objects.exists()


@pytest.mark.parametrize(
    "status", set(Status) - {Status.FINISHED, Status.FAILED, Status.CANCELED}
)
def test_a_task_that_goes_on_cannot_be_deleted(boss, status):
    task = make_task(status)

    assert page_url(task, "delete") not in text_of(boss.get(page_url(task)))
    assert boss.post(page_url(task, "delete"), {"post": "yes"}).status_code == 403
    assert TaskLog.objects.exists()


def test_a_task_that_began_again_since_the_question_is_not_deleted(boss, monkeypatch):
    task = make_task(Status.FAILED)
    monkeypatch.setattr(TaskLogAdmin, "has_delete_permission", lambda *_: True)
    boss.post(page_url(task, "retry"))

    assert boss.post(page_url(task, "delete"), {"post": "yes"}).status_code == 403
    assert status_of(task) == Status.PENDING
    assert LogEntry.objects.count() == 1


def test_nobody_deletes_without_the_permission(operator):
    task = make_task(Status.FINISHED)

    assert operator.post(page_url(task, "delete"), {"post": "yes"}).status_code == 403
    assert TaskLog.objects.exists()
