"""Each button and each list action pressed once as a person would, and what came of it."""

from __future__ import annotations

import psutil
import pytest
from django.urls import reverse
from django_celery_beat.models import PeriodicTask
from playwright.sync_api import expect

import taskcontrol
from taskcontrol import schedules
from taskcontrol.models import Schedule, TaskBatch, TaskEvent, TaskLog, TaskType
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_batch, make_task, make_type
from tests.waiting import eventually

# What the database is makes no difference here.
pytestmark = [pytest.mark.integration, pytest.mark.only_on("sqlite")]

WHY = "as a test"
STUBBORN = 300


@pytest.fixture
def still(workshop):
    """Nothing moves but what a person moves."""
    taskcontrol.toggle_dispatcher(False, reason="a test")


def address(row, page="change"):
    view = f"admin:taskcontrol_{row._meta.model_name}_{page}"
    return reverse(view, args=[] if page == "changelist" else [row.pk])


def status_of(row) -> str:
    return type(row).objects.get(pk=row.pk).status


def told(page, text):
    expect(page.locator(".messagelist")).to_contain_text(text)


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def press_and_give_a_reason(page, summary, button):
    page.get_by_text(f"{summary}…", exact=True).click()
    page.locator("details[open]").get_by_label("Reason").fill(WHY)
    press(page, button)


def choose(page, row, action):
    """Take a list action on one row."""
    page.locator(f"input.action-select[value='{row.pk}']").check()
    page.locator("select[name=action]").first.select_option(action)
    page.locator("button[name=index]").first.click()


def test_each_button_of_a_task(still, boss, visit):
    task = make_task("Failed", error_message="ValueError: no")
    page = visit(boss, address(task))
    press(page, "Retry")
    told(page, "Retried.")
    assert status_of(task) == Status.PENDING
    press_and_give_a_reason(page, "Pause", "Pause this task")
    told(page, f"Paused: {WHY}")
    assert status_of(task) == Status.PAUSED
    press(page, "Resume")
    told(page, "Resumed.")
    assert status_of(task) == Status.PENDING
    press(page, "To the front")
    told(page, "Put to the front.")
    press_and_give_a_reason(page, "Cancel", "Cancel this task")
    told(page, f"Canceled: {WHY}")
    assert status_of(task) == Status.CANCELED
    press(page, "Retry now")
    told(page, "Retried, first in line.")
    assert status_of(task) == Status.PENDING
    actors = set(TaskEvent.objects.filter(task=task).values_list("actor", flat=True))
    assert actors == {boss.user.pk}


def test_what_has_finished_runs_again_and_is_deleted(still, boss, visit):
    task = make_task("Finished")
    page = visit(boss, address(task))
    press(page, "Run again")
    copy = eventually(lambda: TaskLog.objects.exclude(pk=task.pk).first())
    told(page, f"Run again as task {copy.pk}.")
    assert (copy.status, copy.method) == (Status.PENDING, task.method)
    page.get_by_role("link", name="Delete", exact=True).click()
    page.get_by_role("button", name="Yes, I").click()
    told(page, "deleted")
    assert not TaskLog.objects.filter(pk=task.pk).exists()


ON_TASKS = [
    ("retry_tasks", "Failed", "Retry", "1 retried.", "Pending"),
    ("retry_tasks_now", "Canceled", "Retry now", "1 retried, first in line.", "Pending"),
    ("pause_tasks", "Pending", "Pause", "1 paused.", "Paused"),
    ("resume_tasks", "Paused", "Resume", "1 resumed.", "Pending"),
    ("to_front_tasks", "Pending", "To the front", "1 put to the front.", "Pending"),
    ("cancel_tasks", "Pending", "Cancel", "1 canceled.", "Canceled"),
    ("erase_tasks", "Finished", "Delete", "1 deleted.", None),
]


def test_each_action_of_the_list_of_tasks(still, boss, visit):
    rows = [make_task(status) for _, status, *_ in ON_TASKS]
    page = visit(boss, address(rows[0], "changelist"))
    for row, (action, _, label, message, status) in zip(rows, ON_TASKS, strict=True):
        choose(page, row, action)
        press(page, f"{label}: 1 task")
        told(page, message)
        found = TaskLog.objects.filter(pk=row.pk).values_list("status", flat=True).first()
        assert found == status


def test_each_button_of_a_batch(still, boss, visit):
    batch = make_batch(total=3)
    for status in ("Failed", "Canceled", "Pending"):
        make_task(status, batch_id=batch.pk)

    def members(status) -> int:
        return TaskLog.objects.filter(batch_id=batch.pk, status=status).count()

    page = visit(boss, address(batch))
    press(page, "Retry failed")
    told(page, "1 task retried.")
    assert members("Pending") == 2
    press_and_give_a_reason(page, "Pause", "Pause this batch")
    told(page, f"2 tasks paused: {WHY}")
    assert TaskBatch.objects.get(pk=batch.pk).paused_at
    press(page, "Resume")
    told(page, "2 tasks resumed.")
    assert members("Pending") == 2
    press(page, "Retry failed and canceled")
    told(page, "1 task retried.")
    assert members("Pending") == 3
    press_and_give_a_reason(page, "Cancel", "Cancel this batch")
    told(page, f"3 tasks canceled: {WHY}")
    assert members("Canceled") == 3


ON_BATCHES = [
    ("pause_batches", "Pending", "Pause", "Paused"),
    ("resume_batches", "Paused", "Resume", "Pending"),
    ("retry_batches", "Failed", "Retry failed", "Pending"),
    ("cancel_batches", "Pending", "Cancel", "Canceled"),
]


def test_each_action_of_the_list_of_batches(still, boss, visit):
    rows = [make_batch(action, total=1) for action, *_ in ON_BATCHES]
    for action, status, *_ in ON_BATCHES:
        make_task(status, batch_id=action)
    page = visit(boss, address(rows[0], "changelist"))
    for row, (action, _, label, status) in zip(rows, ON_BATCHES, strict=True):
        choose(page, row, action)
        press(page, f"{label}: 1 batch")
        told(page, "1 task")
        assert TaskLog.objects.get(batch_id=action).status == status


def test_a_type_is_paused_and_resumed(still, boss, visit):
    one = make_type()
    page = visit(boss, address(one))
    press_and_give_a_reason(page, "Pause", "Pause")
    told(page, f"Paused: {WHY}")
    assert TaskType.objects.get(pk=one.pk).paused_reason == WHY
    press(page, "Resume")
    told(page, "Resumed.")
    assert TaskType.objects.get(pk=one.pk).paused_at is None


def test_a_schedule_is_made_and_each_of_its_buttons_pressed(still, boss, visit):
    page = visit(boss, reverse("admin:taskcontrol_schedule_changelist"))
    page.get_by_role("link", name="Add schedule").first.click()
    page.locator("[name=name]").fill("hourly")
    page.locator("[name=method]").fill("tests.tasks.nothing")
    page.locator("[name=cron]").fill("0 * * * *")
    page.get_by_role("button", name="Save and continue editing").click()
    told(page, "was added successfully")
    one = Schedule.objects.get(name="hourly")
    press(page, "Run now")
    task = eventually(lambda: TaskLog.objects.filter(schedule="hourly").first())
    told(page, f"Made task {task.pk}.")
    press(page, "Skip next")
    told(page, "Skipped; the next run is at")
    press(page, "Disable")
    told(page, "Disabled; what runs goes on.")
    assert not PeriodicTask.objects.get(pk=one.periodic_id).enabled
    press(page, "Enable")
    told(page, "Enabled.")
    assert PeriodicTask.objects.get(pk=one.periodic_id).enabled
    page.get_by_role("link", name="Delete", exact=True).click()
    page.get_by_role("button", name="Yes, I").click()
    told(page, "deleted")
    assert not PeriodicTask.objects.filter(pk=one.periodic_id).exists()


def test_each_action_of_the_list_of_schedules(still, boss, visit):
    one = schedules.create(tasks.nothing, cron="0 * * * *", name="hourly")
    due = Schedule.objects.get(pk=one.pk).next_run_at
    page = visit(boss, reverse("admin:taskcontrol_schedule_changelist"))

    def done(action):
        # Each says the same, so the last one must not be there any more.
        page.reload()
        expect(page.locator(".messagelist")).to_have_count(0)
        choose(page, one, action)
        told(page, "Done for 1 of the selected.")
        one.refresh_from_db()

    done("run_selected")
    assert TaskLog.objects.get().schedule == "hourly"
    done("skip_selected")
    assert one.next_run_at > due
    done("disable_selected")
    assert not one.enabled
    done("enable_selected")
    assert one.enabled


def test_a_stubborn_body_is_canceled_and_stopped_by_force(
    start_worker, boss, visit, record
):
    start_worker(["default"], concurrency=1, conf={"CANCEL_GRACE": STUBBORN})
    task = taskcontrol.enqueue(tasks.swallow_everything, seconds=STUBBORN, queue="default")
    [started] = eventually(lambda: record.lines("started"), timeout=30)
    body = psutil.Process(started["pid"])
    page = visit(boss, address(task))
    press_and_give_a_reason(page, "Cancel", "Cancel this task")
    told(page, f"Canceled: {WHY}")
    eventually(lambda: record.lines("swallowed"))
    assert body.is_running()
    # The button comes by itself once the body has had its time.
    press(page, "Stop by force")
    told(page, "To be stopped by force within a second.")
    eventually(lambda: not body.is_running(), timeout=30)
    eventually(lambda: not TaskLog.objects.get(pk=task.pk).occupies, timeout=30)
    assert status_of(task) == Status.CANCELED
