"""The list of tasks in a real browser: tabs that count on, the search, acts on all that match."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

import taskcontrol
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests import tasks

# What the database is makes no difference to a browser.
pytestmark = [pytest.mark.integration, pytest.mark.only_on("sqlite")]
LIST = "/admin/taskcontrol/tasklog/"


def tab_of(page, status):
    return page.locator(".tc-tabs a", has_text=status)


def row_of(page, task):
    return page.locator(
        "#result_list tbody tr", has=page.locator(f"[data-tc-task='{task.pk}']")
    )


def test_the_tabs_count_on_and_narrow_the_list_p10(worker, boss, visit):
    waiting = taskcontrol.enqueue(tasks.nothing, paused=True)
    page = visit(boss, LIST)
    expect(tab_of(page, "Paused").locator(".tc-count")).to_have_text("1")
    other = taskcontrol.enqueue(tasks.nothing, paused=True)
    expect(tab_of(page, "Paused").locator(".tc-count")).to_have_text("2", timeout=15_000)

    tab_of(page, "Paused").click()

    expect(tab_of(page, "Paused")).to_have_attribute("aria-current", "page")
    expect(row_of(page, waiting)).to_be_visible()
    # A row that no longer matches stays where it is, and says how it is now.
    waiting.resume()
    expect(row_of(page, waiting)).to_contain_text("Finished", timeout=10_000)
    expect(row_of(page, other)).to_contain_text("Paused")
    expect(tab_of(page, "Paused").locator(".tc-count")).to_have_text("1", timeout=15_000)


def test_rows_that_a_search_found_stay_true_and_newer_ones_are_those_it_would_find_p10(
    worker, boss, visit
):
    found = taskcontrol.enqueue(tasks.give_back, value=7, queue="long", paused=True)
    page = visit(boss, LIST)

    page.get_by_text("Search keys").click()
    expect(page.get_by_text("args.customer.id:12")).to_be_visible()
    page.locator("#searchbar").fill("args.value:7 queue:long")
    page.locator("#searchbar").press("Enter")
    expect(row_of(page, found)).to_contain_text("Paused")
    taskcontrol.enqueue(tasks.give_back, value=8, queue="long", paused=True)
    taskcontrol.enqueue(tasks.give_back, value=7, queue="long", paused=True)
    found.resume()

    expect(row_of(page, found)).to_contain_text("Finished", timeout=10_000)
    expect(page.get_by_role("link", name="1 new - show")).to_be_visible(timeout=10_000)
    page.locator("#searchbar").fill("shop:7")
    page.locator("#searchbar").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("There is no search key shop.")
    expect(page.locator("#result_list")).to_have_count(0)


def test_all_that_match_are_canceled_in_the_background_with_a_bar(worker, boss, visit):
    members = [{"paused": True, "event": "wrong"}] * 510
    taskcontrol.bulk_enqueue(members, method=tasks.nothing)
    spared = taskcontrol.enqueue(tasks.nothing, paused=True)
    page = visit(boss, f"{LIST}?event=wrong")

    page.locator("#action-toggle").check()
    page.get_by_text("Select all 510 tasks").click()
    page.locator("select[name=action]").first.select_option("cancel_tasks")
    page.locator("button[name=index]").first.click()
    expect(page.get_by_role("heading", name="510 tasks match")).to_be_visible()
    expect(page.locator("tbody tr", has_text="Paused")).to_contain_text("510")
    page.get_by_label(re.compile("Reason")).fill("the wrong list")
    page.get_by_role("button", name="Cancel: 510 tasks").click()

    state = page.locator("[data-tc-live=story] .tc-state")
    expect(state).to_contain_text("canceled.", timeout=20_000)
    expect(state.locator("progress")).to_be_visible()
    expect(state).to_contain_text("Finished", timeout=90_000)
    expect(page.locator("[data-tc-live=story]")).to_contain_text("510 canceled.")
    canceled = TaskLog.objects.filter(event="wrong", status=Status.CANCELED)
    assert canceled.filter(canceled_by=boss.user.pk).count() == 510
    spared.refresh_from_db()
    assert spared.status == Status.PAUSED
