"""The front page in a real browser: its regions follow at their own pace, its bars lead on."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import unquote

import pytest
from playwright.sync_api import expect

import taskcontrol
from taskcontrol import dialect
from taskcontrol.models import DispatcherState, Rollup
from taskcontrol.rollup import floor_to
from tests import tasks
from tests.factories import make_task, seconds_ago
from tests.waiting import eventually

# What the database is makes no difference to a browser.
pytestmark = [pytest.mark.integration, pytest.mark.only_on("sqlite")]
FRONT = "/admin/taskcontrol/"
PHONE = {"width": 390, "height": 800}


@pytest.fixture
def ended(workshop):
    """A task that failed three minutes ago, counted, with the row of all types."""
    at = seconds_ago(180)
    task = make_task("Failed", method="shop.pay", ended_at=at, error_message="No money")
    start = floor_to(at, 1)
    for method in ("", "shop.pay"):
        Rollup.objects.create(
            start=start,
            method=method,
            queue=method and "default",
            finished=3,
            failed=1,
            waits={"20": 4},
            runs={"40": 4},
            run_seconds=4.0,
        )
    return task


def test_a_bar_leads_to_the_tasks_that_it_counts(boss, visit, ended):
    page = visit(boss, FRONT)
    figure = page.locator("#tc-chart-failures")
    expect(figure.locator("figcaption")).to_contain_text("1 failed for good, 25 %")
    expect(page.locator(".tc-chart")).to_have_count(4)
    # The bar answers to the pointer over its whole height.
    figure.locator("svg a .tc-hit").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    expect(page.locator("#result_list")).to_contain_text("No money")
    assert "status__exact=Failed" in unquote(page.url)


def test_a_keyboard_reaches_each_number_by_the_table(boss, visit, ended):
    page = visit(boss, FRONT)
    expect(page.locator("svg.tc-chart a:not([tabindex='-1'])")).to_have_count(0)
    page.get_by_text("The same as a table").focus()
    page.keyboard.press("Enter")
    row = page.locator(".tc-all tbody tr")
    expect(row).to_have_count(1)
    row.get_by_role("link").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#result_list")).to_contain_text("No money")


def test_cards_follow_at_once_and_what_is_open_stays_open(worker, boss, visit, ended):
    page = visit(boss, f"{FRONT}?period=24h")
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.headers.get("x-taskcontrol-regions")))
    page.get_by_text("The same as a table").click()
    page.get_by_text("Suspend…").click()
    page.get_by_label("Reason").fill("deploy")
    card = page.locator(".tc-card", has_text="Paused").locator(".tc-number")
    expect(card).to_have_text("0")
    taskcontrol.enqueue(tasks.nothing, paused=True, queue="long")
    expect(card).to_have_text("1", timeout=10_000)
    expect(page.get_by_label("Reason")).to_have_value("deploy")
    expect(page.locator(".tc-all tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Suspend the dispatcher").click()
    expect(page.locator(".tc-banner")).to_contain_text("deploy")
    assert "cards" in asked
    assert all("charts" not in (regions or "") for regions in asked)


def test_the_dispatcher_is_seen_resumed_by_an_open_page(worker, boss, visit):
    taskcontrol.toggle_dispatcher(False, reason="deploy")
    page = visit(boss, FRONT)
    health = page.locator("[data-tc-live=health]")
    expect(health).to_contain_text("Suspended")
    taskcontrol.toggle_dispatcher(True)
    expect(health.get_by_text("Running")).to_be_visible(timeout=15_000)


def test_a_worker_counts_what_ended(worker, boss, visit):
    """The minutes before this one are counted by the worker's own timer."""
    start = floor_to(dialect.now("default"), 1) - timedelta(minutes=5)
    DispatcherState.objects.update(rolled_until=start)
    make_task("Finished", method="shop.pay", ended_at=start + timedelta(seconds=1))
    eventually(Rollup.objects.exists, timeout=30)
    page = visit(boss, FRONT)
    caption = page.locator("#tc-chart-throughput figcaption")
    expect(caption).to_contain_text("1 ended: 1 finished")


@pytest.mark.parametrize("period", ["1h", "7d"])
def test_on_a_phone_the_page_does_not_scroll_sideways(boss, visit, ended, period):
    page = visit(boss, FRONT)
    page.set_viewport_size(PHONE)
    page.goto(f"{page.url}?period={period}")
    page.get_by_text("The same as a table").click()
    expect(page.locator(".tc-all table")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
