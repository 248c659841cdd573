"""The page of a task in a real browser: its bar, why it waits, and a copy with other arguments."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse
from playwright.sync_api import expect

import taskcontrol
from taskcontrol.models import TaskLog, TaskType
from tests import tasks
from tests.live import bodies

# What the database is makes no difference to a browser.
pytestmark = [pytest.mark.integration, pytest.mark.only_on("sqlite")]


def page_of(task) -> str:
    """Return the address of the page of a task."""
    return reverse("admin:taskcontrol_tasklog_change", args=[task.pk])


def test_a_person_reads_why_a_task_waits_and_makes_room_for_it_p10(worker, boss, visit):
    method = f"{bodies.__name__}.{bodies.report_and_wait.__name__}"
    TaskType.objects.update_or_create(
        method=method, defaults={"concurrency_limit": 1, "declared": {}}
    )
    holder = taskcontrol.enqueue(bodies.report_and_wait)
    page = visit(boss, page_of(holder))
    bar = page.locator("progress[data-tc-bar]")
    expect(bar).to_have_attribute("max", "4", timeout=15_000)
    expect(page.locator("[data-tc-numbers]")).to_have_text("1 / 4")

    waiting = taskcontrol.enqueue(bodies.report_and_wait)
    page.goto(page.url.replace(page_of(holder), page_of(waiting)))
    reason = page.locator("[data-tc-reason=limit]")
    expect(reason).to_contain_text("1 of 1 places of its type are taken")
    reason.get_by_role("link", name=f"task {holder.pk}").click()
    page.get_by_text("Cancel…").click()
    page.get_by_role("button", name="Cancel this task").click()
    expect(page.locator(".tc-state")).to_contain_text("Canceled")
    page.goto(page.url.replace(page_of(holder), page_of(waiting)))
    expect(page.locator(".tc-state")).to_contain_text("Started", timeout=15_000)
    taskcontrol.cancel(waiting)


def test_a_person_corrects_the_arguments_of_a_failed_task(worker, boss, visit):
    task = taskcontrol.enqueue(tasks.add, left=1, right="two")
    page = visit(boss, page_of(task))
    expect(page.locator(".tc-state")).to_contain_text("Failed", timeout=15_000)
    expect(page.locator(".tc-failure > p")).to_contain_text("TypeError")
    page.get_by_role("link", name="Retry with edited arguments").click()
    box = page.get_by_label("Arguments")
    expect(box).to_have_value('{\n  "left": 1,\n  "right": "two"\n}')
    box.fill('{"left": 1, "right": 2}')
    page.get_by_role("button", name="Run the copy").click()

    expect(page.get_by_text(f"This is a copy of task {task.pk}.")).to_be_visible()
    expect(page.locator(".tc-state")).to_contain_text("Finished", timeout=15_000)
    near = page.locator(".tc-relations")
    expect(near).to_contain_text("retry of", ignore_case=True)
    near.get_by_role("link", name=f"task {task.pk}").click()
    copy = TaskLog.objects.get(parent=task)
    expect(page.locator(".tc-relations")).to_contain_text(f"task {copy.pk}")
    assert copy.created_by == boss.user


def test_the_page_of_a_waiting_task_learns_of_a_pause_that_is_no_news_of_it_p10(
    boss, visit
):
    later = timedelta(hours=1)
    task = taskcontrol.enqueue(tasks.add, left=1, right=2, run_at=later)
    page = visit(boss, page_of(task))
    expect(page.get_by_text("Why is it waiting?")).to_be_visible()
    taskcontrol.toggle_dispatcher(enable=False, reason="deploy")
    expect(page.locator("[data-tc-reason=suspended]")).to_contain_text(
        "deploy", timeout=8_000
    )
