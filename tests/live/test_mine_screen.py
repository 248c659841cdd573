"""My tasks in a real browser: a person without admin follows the own tasks (P10)."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

import taskcontrol
from tests import tasks
from tests.factories import make_type
from tests.live import bodies

# What the database is makes no difference to a browser.
pytestmark = [pytest.mark.integration, pytest.mark.only_on("sqlite")]
LIST = "/taskcontrol/mine/"


def enqueue_for(person, body, **options):
    """Enqueue as somebody."""
    return taskcontrol.enqueue(body, created_by=person.user, **options)


def line_of(page, task):
    """Return the line of the list that shows ``task``."""
    return page.locator(f"li[data-tc-task='{task.pk}']")


def test_the_list_follows_own_tasks_and_shows_new_ones_p10(worker, somebody, boss, visit):
    first = enqueue_for(somebody, tasks.nothing, paused=True)
    page = visit(somebody, LIST)
    expect(line_of(page, first)).to_contain_text("Paused")
    first.resume()
    expect(line_of(page, first)).to_contain_text("Finished", timeout=10_000)
    other = enqueue_for(boss, tasks.nothing, paused=True)
    second = enqueue_for(somebody, tasks.nothing, paused=True, job_name="The next")
    expect(line_of(page, second)).to_contain_text("The next", timeout=10_000)
    expect(page.locator("li[data-tc-task]").first).to_contain_text("The next")
    expect(line_of(page, other)).to_have_count(0)


def test_an_owner_follows_a_task_and_cancels_it_with_a_reason_p10(worker, somebody, visit):
    task = enqueue_for(somebody, bodies.report_and_wait, job_name="My report")
    page = visit(somebody, LIST)
    page.get_by_role("link", name="My report").click()
    expect(page.get_by_text("1 / 4")).to_be_visible(timeout=10_000)
    expect(page.get_by_role("progressbar")).to_have_attribute("value", "1")
    page.get_by_text("Cancel…").click()
    page.get_by_label("Reason").fill("not needed")
    page.get_by_role("button", name="Cancel this task").click()
    expect(page.locator(".tc-badge").first).to_contain_text("Canceled", timeout=10_000)
    expect(page.locator(".tc-mine-why")).to_have_text("not needed")
    task.refresh_from_db()
    assert task.status == "Canceled"


def test_an_owner_retries_what_the_type_lets_him(worker, somebody, visit):
    make_type(method="tests.tasks.fail", owner_may_retry=True)
    task = enqueue_for(somebody, tasks.fail, job_name="It fails")
    page = visit(somebody, f"{LIST}{task.pk}/")
    expect(page.locator(".tc-badge").first).to_have_text("Failed", timeout=10_000)
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("dl")).to_contain_text("2", timeout=10_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_both_pages_without_scrolling_sideways(
    worker, somebody, visit, scheme
):
    name = "A_long_name_without_any_space_that_a_person_gave_to_a_task_" * 2
    task = enqueue_for(somebody, tasks.nothing, paused=True, job_name=name)
    for path in (LIST, f"{LIST}{task.pk}/"):
        page = visit(somebody, path)
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": 390, "height": 800})
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390
        ground = page.evaluate(
            "getComputedStyle(document.querySelector('.tc-badge')).color"
        )
        assert ground


def test_without_scripts_the_pages_show_and_act(worker, somebody, browser, web):
    task = enqueue_for(somebody, tasks.nothing, paused=True, job_name="Plain")
    context = browser.new_context(java_script_enabled=False)
    name, value = somebody.cookie.split("=")
    context.add_cookies([{"name": name, "value": value, "url": web.url}])
    page = context.new_page()
    page.goto(f"{web.url}{LIST}")
    page.get_by_role("link", name="Plain").click()
    page.get_by_text("Cancel…").click()
    page.get_by_role("button", name="Cancel this task").click()
    expect(page.locator(".tc-badge").first).to_have_text("Canceled")
    context.close()
    task.refresh_from_db()
    assert task.status == "Canceled"
