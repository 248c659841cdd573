"""Types, batches and schedules in a real browser: gauges, bars and squares that follow."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse
from playwright.sync_api import expect

import taskcontrol
from taskcontrol import schedules
from taskcontrol.models import TaskLog, TaskType
from tests import tasks
from tests.factories import make_type
from tests.live import bodies

# What the database is makes no difference to a browser.
pytestmark = [pytest.mark.integration, pytest.mark.only_on("sqlite")]
TYPES = "/admin/taskcontrol/tasktype/"
SOON = 15_000


def page_of(row):
    return reverse(f"admin:taskcontrol_{row._meta.model_name}_change", args=[row.pk])


def test_the_gauge_of_a_limit_follows_its_tasks_and_names_the_holders(worker, boss, visit):
    method = "tests.live.bodies.report_and_wait"
    one = make_type(method, concurrency_limit=1)
    listed, page = visit(boss, TYPES), visit(boss, page_of(one))
    gauges = [
        listed.locator("#result_list tr", has_text=method).locator(".tc-gauge"),
        page.locator("#places .tc-gauge"),
    ]
    for gauge in gauges:
        expect(gauge).to_have_text("0 of 1")
    task = taskcontrol.enqueue(bodies.report_and_wait, job_name="the holder")
    for gauge in gauges:
        expect(gauge).to_have_text("1 of 1", timeout=SOON)
    page.locator("#places").get_by_role("link", name="the holder").click()
    expect(page).to_have_url(f"{page.url.split('/admin')[0]}{page_of(task)}")
    page.goto(page.url.replace(page_of(task), page_of(one)))
    task.cancel()
    for gauge in gauges:
        expect(gauge).to_have_text("0 of 1", timeout=SOON)


def test_a_person_changes_a_limit_and_resets_it_alone(boss, visit):
    one = make_type("tests.tasks.nothing", is_standard=True, priority=3)
    TaskType.objects.filter(pk=one.pk).update(declared={"concurrency_limit": 2})
    page = visit(boss, page_of(one))
    page.get_by_role("button", name="Reset concurrency limit").click()
    expect(page.locator(".messagelist")).to_contain_text("Reset concurrency_limit")
    one.refresh_from_db()
    assert (one.concurrency_limit, one.priority) == (2, 3)
    page.get_by_role("button", name="Reset to what code declares").click()
    expect(page.get_by_text("changed by hand")).to_have_count(0)
    one.refresh_from_db()
    assert one.priority == 0


def test_a_task_is_run_from_the_form_of_its_type(worker, boss, visit):
    one = make_type("tests.tasks.add")
    page = visit(boss, page_of(one))
    page.get_by_role("link", name="Run…").click()
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("This field is required.")).to_be_visible()
    page.get_by_label("left").fill("40")
    page.get_by_label("right").fill("2")
    page.get_by_label("Priority").fill("4000")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("priority must be a whole number")).to_be_visible()
    page.get_by_label("Priority").fill("4")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("[data-tc-live=story] .tc-state")).to_contain_text(
        "Finished", timeout=SOON
    )
    task = TaskLog.objects.get(method="tests.tasks.add")
    assert (task.result, task.created_by, task.priority) == (42, boss.user, 4)


def test_the_list_of_batches_follows_them(worker, boss, visit):
    taskcontrol.bulk_enqueue([{"method": tasks.nothing, "paused": True}] * 3, 'a "b"')
    page = visit(boss, "/admin/taskcontrol/taskbatch/")
    row = page.locator("#result_list tbody tr")
    expect(row.locator(".tc-numbers")).to_have_text("0 of 3")
    for task in TaskLog.objects.filter(batch_id='a "b"'):
        task.resume()
    expect(row.locator(".tc-numbers")).to_have_text("3 of 3", timeout=SOON)
    expect(row.locator(".field-state")).to_have_text("ended")


def test_a_schedule_is_run_now_and_its_strip_grows(worker, boss, visit):
    one = schedules.create(tasks.fail, cron="30 3 * * *", name="nightly")
    page = visit(boss, page_of(one))
    expect(page.get_by_text("It has not run yet.")).to_be_visible()
    page.get_by_role("button", name="Run now").click()
    expect(page.locator(".messagelist")).to_contain_text("Made task")
    square = page.locator(".tc-strip a")
    expect(square).to_have_attribute("title", re.compile("^Failed"), timeout=SOON)
    before = page.locator(".tc-times time").first.get_attribute("datetime")
    page.get_by_role("button", name="Skip next").click()
    expect(page.locator(".messagelist")).to_contain_text("Skipped")
    assert page.locator(".tc-times time").first.get_attribute("datetime") != before
    square.click()
    expect(page.locator("[data-tc-live=story] .tc-state")).to_contain_text("Failed")
