"""The screens in a real browser: what is shown stays true without a reload (P10)."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import expect

import taskcontrol
from tests import tasks
from tests.live import bodies

# What the database is makes no difference to a browser.
pytestmark = [pytest.mark.integration, pytest.mark.only_on("sqlite")]
LIST = "/admin/taskcontrol/tasklog/"


def row_of(page, task):
    """Return the row that shows ``task``."""
    return page.locator(
        "#result_list tbody tr", has=page.locator(f"[data-tc-task='{task.pk}']")
    )


def test_rows_are_patched_where_they_stand_and_new_ones_are_told_p10(worker, boss, visit):
    first, second = (taskcontrol.enqueue(tasks.nothing, paused=True) for _ in range(2))
    page = visit(boss, LIST)
    expect(row_of(page, first)).to_contain_text("Paused")
    row_of(page, second).locator("input.action-select").check()
    first.resume()
    expect(row_of(page, first)).to_contain_text("Finished")
    expect(row_of(page, second)).to_contain_text("Paused")
    expect(row_of(page, second).locator("input.action-select")).to_be_checked()
    third = taskcontrol.enqueue(tasks.nothing, paused=True)
    note = page.get_by_role("link", name="1 new - show")
    expect(note).to_be_visible(timeout=10_000)
    expect(row_of(page, third)).to_have_count(0)
    note.click()
    expect(row_of(page, third)).to_have_count(1)


def test_the_page_of_a_task_follows_it_to_its_end_p10(worker, boss, visit):
    task = taskcontrol.enqueue(bodies.report_and_wait, paused=True)
    page = visit(boss, reverse("admin:taskcontrol_tasklog_change", args=[task.pk]))
    state = page.locator("[data-tc-live=story] .tc-state")
    expect(state).to_contain_text("Paused")
    page.get_by_role("button", name="Resume").click()
    expect(state).to_contain_text("1 / 4 one", timeout=10_000)
    page.get_by_text("Cancel…").click()
    page.get_by_label("Reason").fill("not needed")
    page.get_by_role("button", name="Cancel this task").click()
    expect(state).to_contain_text("Canceled", timeout=10_000)
    expect(page.locator(".tc-timeline")).to_contain_text("not needed")


def test_the_page_of_a_batch_fills_while_it_is_looked_at_p9(worker, boss, visit):
    taskcontrol.bulk_enqueue([{"method": tasks.nothing, "paused": True}] * 3, "three")
    page = visit(boss, reverse("admin:taskcontrol_taskbatch_change", args=["three"]))
    expect(page.locator(".tc-numbers")).to_have_text("0 of 3")
    for task in taskcontrol.models.TaskLog.objects.filter(batch_id="three"):
        task.resume()
    expect(page.locator(".tc-numbers")).to_have_text("3 of 3", timeout=10_000)


def test_the_overview_counts_on(worker, boss, visit):
    page = visit(boss, "/admin/taskcontrol/")
    card = page.locator(".tc-card", has_text="Paused").locator(".tc-number")
    expect(card).to_have_text("0")
    taskcontrol.enqueue(tasks.nothing, paused=True)
    expect(card).to_have_text("1", timeout=10_000)
