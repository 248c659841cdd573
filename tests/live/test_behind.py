"""A page that is not up to date says so, and says no more when it is again (P10)."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import expect

import taskcontrol
from tests import tasks

# What the database is makes no difference to a browser.
pytestmark = [pytest.mark.integration, pytest.mark.only_on("sqlite")]
LIST = "/admin/taskcontrol/tasklog/"
#: A page that is looked at once in 15 seconds says it late.
PATIENCE = 60_000


def sign_of(page):
    """Return what says that the page is behind."""
    return page.locator(".taskcontrol-behind")


def log_in_again(page, person, server):
    """Let the browser of the page have a new session, as another tab would."""
    person.client.force_login(person.user)
    name, value = person.cookie.split("=")
    page.context.add_cookies([{"name": name, "value": value, "url": server.url}])


def test_a_page_says_that_somebody_logged_out_elsewhere_until_a_login_p8(
    web, worker, boss, visit
):
    task = taskcontrol.enqueue(tasks.nothing, paused=True)
    list_page = visit(boss, LIST)
    task_page = visit(boss, reverse("admin:taskcontrol_tasklog_change", args=[task.pk]))
    for page in (list_page, task_page):
        expect(page.locator("html")).to_have_attribute("data-taskcontrol", "live")
        expect(sign_of(page)).to_be_empty()
    boss.client.logout()
    for page in (list_page, task_page):
        expect(sign_of(page)).to_contain_text("Not up to date since", timeout=PATIENCE)
        expect(sign_of(page)).to_have_role("status")
        expect(page.locator("html[data-taskcontrol-behind]")).to_have_count(1)
        log_in_again(page, boss, web)
    for page in (list_page, task_page):
        expect(sign_of(page)).to_be_empty(timeout=PATIENCE)
        expect(page.locator("html[data-taskcontrol-behind]")).to_have_count(0)


def test_a_page_without_its_server_says_so_and_hears_on_when_it_is_back_p10(
    start_web, worker, boss, visit
):
    server = start_web()
    task = taskcontrol.enqueue(tasks.nothing, paused=True)
    page = visit(boss, LIST, server)
    expect(page.locator("html")).to_have_attribute("data-taskcontrol", "live")
    server.process.kill()
    expect(sign_of(page)).to_contain_text("Not up to date since", timeout=PATIENCE)
    expect(sign_of(page).get_by_role("link", name="Reload")).to_be_visible()
    task.resume()
    server.start()
    expect(sign_of(page)).to_be_empty(timeout=PATIENCE)
    expect(page.locator("#result_list")).to_contain_text("Finished", timeout=PATIENCE)


def test_a_region_that_cannot_be_had_is_told_and_tried_again(web, worker, boss, visit):
    task = taskcontrol.enqueue(tasks.nothing, paused=True)
    url = reverse("admin:taskcontrol_tasklog_change", args=[task.pk])
    page = visit(boss, url)
    state = page.locator("[data-tc-live=story] .tc-state")
    expect(state).to_contain_text("Paused")
    page.route(f"**{url}", lambda route: route.fulfill(status=500, body="no"))
    taskcontrol.cancel(task)
    expect(sign_of(page)).to_contain_text("Not up to date since", timeout=PATIENCE)
    page.unroute(f"**{url}")
    expect(state).to_contain_text("Canceled", timeout=PATIENCE)
    expect(sign_of(page)).to_be_empty(timeout=PATIENCE)
