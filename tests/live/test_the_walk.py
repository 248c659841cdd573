"""What a person does who sees it for the first time, from the first button to the last."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from project.library.models import SourceFile
from taskcontrol.models import TaskBatch, TaskLog, TaskType
from taskcontrol.status import Status

# What the database is makes no difference here.
pytestmark = [pytest.mark.integration, pytest.mark.only_on("sqlite")]

SAMPLES = 10
BROKEN = 6
#: How long a step may take on a machine under load, in milliseconds.
PATIENCE = 60_000


@pytest.fixture
def workers(start_workers):
    """One indexes a package of some files; the other has all of Python to read, for a while."""
    small = {"LIBRARY_DIR": str(Path(json.__file__).parent)}
    start_workers(
        {"queues": ["short", "default"], "env": small}, {"queues": ["long"], "env": {}}
    )


def test_a_newcomer_walks_through_all_of_it_by_clicking(workers, boss, visit):
    page = visit(boss, "/")
    _index_the_library(page)
    _find_what_failed(page)
    _retry_what_failed(page)
    _make_room_for_what_waits(page)
    _cancel_what_runs(page)
    _suspend_and_resume(page)


def _index_the_library(page):
    page.get_by_role("button", name="Index the library").click()
    total = SAMPLES + len(list(Path(json.__file__).parent.glob("*.py")))
    title = f"Index {total} files"
    page.locator("#work").get_by_role("link", name=title).click(timeout=PATIENCE)
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    # From here on nothing loads the page anew: it fills while it is looked at.
    numbers = page.locator(".tc-numbers")
    expect(numbers).to_have_text(f"{total} of {total}", timeout=PATIENCE)
    assert SourceFile.objects.count() == total - BROKEN


def _find_what_failed(page):
    page.get_by_role("link", name=f"{BROKEN} Failed").click()
    rows = page.locator("#result_list tbody tr")
    expect(rows).to_have_count(BROKEN)
    page.locator("#searchbar").fill('error:"never closed"')
    page.locator("#searchbar").press("Enter")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("broken_syntax.py")
    rows.get_by_role("link", name="Index samples/broken_syntax.py").click()
    expect(page.locator(".tc-failure > p")).to_contain_text("'(' was never closed")


def _retry_what_failed(page):
    [batch] = TaskBatch.objects.all()
    page.locator(".tc-relations").get_by_role("link", name=batch.title).click()
    page.get_by_role("button", name="Retry failed", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text(f"{BROKEN} tasks retried.")
    # They do not parse the second time either.
    page.get_by_role("link", name=f"{BROKEN} Failed").click(timeout=PATIENCE)
    expect(page.locator("#result_list tbody tr")).to_have_count(BROKEN)
    tried = TaskLog.objects.filter(batch_id=batch.pk, status=Status.FAILED)
    assert set(tried.values_list("attempt", flat=True)) == {2}


def _make_room_for_what_waits(page):
    _go_to_the_site(page)
    for _ in range(2):
        page.get_by_role("button", name="Rank the names").click()
    first, second = TaskLog.objects.filter(job_name="Rank the names").order_by("pk")
    page.locator("#work tr", has_text=f"task {second.pk}").get_by_role("link").click()
    reason = page.locator("[data-tc-reason=limit]")
    expect(reason).to_contain_text("1 of 1 places of its type are taken", timeout=PATIENCE)
    expect(reason.get_by_role("link", name=f"task {first.pk}")).to_be_visible()
    address = page.url
    reason.get_by_role("link", name="type").click()
    page.get_by_label("Concurrency limit").fill("2")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text("changed successfully")
    assert TaskType.objects.get(method=first.method).concurrency_limit == 2
    page.goto(address)
    expect(page.locator(".tc-state")).to_contain_text("Started", timeout=PATIENCE)


def _cancel_what_runs(page):
    for task in TaskLog.objects.filter(job_name="Rank the names", ended_at=None):
        page.goto(f"{page.url.rpartition('/tasklog/')[0]}/tasklog/{task.pk}/change/")
        page.get_by_text("Cancel…").click()
        page.get_by_label("Reason").fill("seen enough")
        page.get_by_role("button", name="Cancel this task").click()
        expect(page.locator(".messagelist")).to_contain_text("Canceled: seen enough")
        expect(page.locator(".tc-state")).to_contain_text("Canceled")
        task.refresh_from_db()
        assert task.status == Status.CANCELED


def _suspend_and_resume(page):
    page.locator(".breadcrumbs").get_by_role("link", name="Task control").click()
    page.get_by_text("Suspend…").click()
    page.get_by_label("Reason").fill("a new release")
    page.get_by_role("button", name="Suspend the dispatcher").click()
    banner = page.locator(".tc-banner")
    expect(banner).to_contain_text("a new release")
    _go_to_the_site(page)
    page.get_by_role("button", name="Index the library").click()
    task = TaskLog.objects.filter(job_name="Index the library").latest("pk")
    page.locator("#work tr", has_text=f"task {task.pk}").get_by_role("link").click()
    expect(page.locator("[data-tc-reason=suspended]")).to_contain_text("a new release")
    address = page.url
    banner.get_by_role("link", name="Resume it").click()
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(banner).to_have_count(0)
    page.goto(address)
    expect(page.locator(".tc-state")).to_contain_text("Finished", timeout=PATIENCE)


def _go_to_the_site(page):
    page.get_by_role("link", name="View site").click()
    expect(page.get_by_role("heading", name="taskcontrol", exact=True)).to_be_visible()
