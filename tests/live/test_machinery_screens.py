"""What runs, the queues and the workers in a real browser, beside a real worker (P10)."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import expect

import taskcontrol
from taskcontrol.models import QueueState, TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.live import bodies

# What the database is makes no difference to a browser.
pytestmark = [pytest.mark.integration, pytest.mark.only_on("sqlite")]
RUNNING = "/admin/taskcontrol/worker/running/"
QUEUES = "/admin/taskcontrol/queuestate/"


def test_what_runs_appears_moves_and_is_canceled_without_a_reload_p10(worker, boss, visit):
    page = visit(boss, RUNNING)
    expect(page.get_by_text("Does nothing now.")).to_be_visible()
    task = taskcontrol.enqueue(
        bodies.report_and_wait, job_name="Index", created_by=boss.user
    )
    row = page.locator("tr", has=page.get_by_role("link", name="Index", exact=True))
    expect(row).to_contain_text("1 / 4 one", timeout=10_000)
    expect(row).to_contain_text("boss")
    expect(page.locator(".tc-bench")).to_contain_text("1 of 2 slots taken")
    row.get_by_text("Cancel…").click()
    row.get_by_label("Reason").fill("too slow")
    row.get_by_role("button", name="Cancel this task").click()
    expect(page.locator(".messagelist")).to_contain_text("Canceled: too slow")
    expect(page.get_by_text("Does nothing now.")).to_be_visible(timeout=10_000)
    task.refresh_from_db()
    assert (task.status, task.canceled_by_id) == (Status.CANCELED, boss.user.pk)


def test_a_queue_is_paused_fills_and_is_purged_p10(worker, boss, visit):
    page = visit(boss, QUEUES)
    row = page.locator("#result_list tbody tr", has=page.get_by_role("link", name="long"))
    expect(row).to_contain_text("Open")
    row.get_by_role("link", name="long").click()
    page.get_by_text("Pause…").click()
    page.locator("details[open]").get_by_label("Reason").fill("disk full")
    page.get_by_role("button", name="Pause", exact=True).click()
    facts = page.locator("[data-tc-live=flow]")
    for _ in range(3):
        taskcontrol.enqueue(tasks.nothing, queue="long")
    expect(facts.locator("dd").first).to_have_text("3", timeout=10_000)
    page.goto(f"{page.url.split(QUEUES)[0]}{QUEUES}")
    expect(row).to_contain_text("disk full")
    row.get_by_role("link", name="long").click()
    page.get_by_text("Purge…").click()
    form = page.locator("details.tc-inline[open]")
    form.get_by_label("Type long to confirm").fill("long")
    form.get_by_label("Reason").fill("wrong import")
    form.get_by_role("button", name="Cancel all that wait").click()
    expect(page.locator(".messagelist")).to_contain_text("Purged, 3 canceled: wrong import")
    expect(facts.locator("dd").first).to_have_text("0")
    assert TaskLog.objects.filter(status=Status.CANCELED).count() == 3
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".tc-state").first).to_contain_text("Open")
    assert QueueState.objects.get(name="long").paused_at is None


def test_a_worker_answers_a_ping_and_is_drained_p10(start_worker, boss, visit):
    own = start_worker(["short"], concurrency=1)
    row = own.row()
    page = visit(boss, reverse("admin:taskcontrol_worker_change", args=[row.pk]))
    region = page.locator("[data-tc-live=worker]")
    expect(region).to_contain_text("live")
    page.get_by_role("button", name="Ping").click()
    expect(page.locator(".messagelist")).to_contain_text("Pinged: it answered in")
    page.get_by_text("Drain…").click()
    page.locator("details[open]").get_by_label("Reason").fill("new release")
    page.get_by_role("button", name="Drain this worker").click()
    expect(page.locator(".messagelist")).to_contain_text("Told to leave: new release")
    expect(region.locator(".tc-state")).to_have_text("left", timeout=30_000)
    expect(region).to_contain_text("What was taken from it")


@pytest.mark.parametrize("path", [RUNNING, QUEUES, "/admin/taskcontrol/worker/"])
def test_on_a_phone_the_page_does_not_scroll_sideways(worker, boss, visit, path):
    taskcontrol.enqueue(
        bodies.report_and_wait,
        job_name="A name that is long " * 5,
        event="x" * 60,
    )
    page = visit(boss, path)
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.locator("[data-tc-live]")).to_be_visible()
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390
