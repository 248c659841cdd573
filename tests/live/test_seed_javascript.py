"""Every JavaScript block of the four documents, run in a real browser with only names changed.

A page of somebody without any permission runs the block under a strict policy; a real worker
does the work, and the test looks at what that person sees.
"""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

import taskcontrol
from taskcontrol.context import acting_as
from taskcontrol.models import TaskLog
from tests import tasks
from tests.live import bodies, seedpages
from tests.waiting import eventually

# What the database is makes no difference to a browser.
pytestmark = [pytest.mark.integration, pytest.mark.only_on("sqlite")]

BAR = ".taskcontrol-bar"


def shown(page):
    """Return what the bars showed: status, value, max and text at each event."""
    return page.evaluate("seen")


def heard(page):
    """Return the events that the raw listener heard."""
    return page.evaluate("heard")


@pytest.mark.parametrize("name", seedpages.NAMES)
def test_every_name_of_the_table_stands_in_a_block(name):
    assert any(name in block for block in seedpages.BLOCKS.values())


def test_show_progress(worker, somebody, visit):
    taskcontrol.toggle_dispatcher(enable=False)
    page = visit(somebody, "/seeds/show_progress/")
    bar = page.locator(BAR)
    expect(bar.locator(".taskcontrol-bar-title")).to_have_text("Importing data")
    expect(bar.locator(".taskcontrol-bar-text")).to_have_text("Pending")
    expect(bar.locator("progress")).to_have_js_property("value", 10)
    eventually(lambda: [one[0] for one in shown(page)] == ["Pending"])

    taskcontrol.toggle_dispatcher(enable=True)
    eventually(lambda: [one[0] for one in shown(page)][-1] == "Started")
    bodies.let_through(1)
    expect(bar).to_contain_text("Processing item 1 of 3…")
    expect(bar.locator("progress")).to_have_js_property("value", 1)
    expect(bar.locator("progress")).to_have_js_property("max", 3)
    bodies.let_through(3)

    expect(page.locator(".alert")).to_have_text("Import complete!")
    expect(bar).to_have_count(0)
    told = shown(page)
    assert told[:3] == [
        ["Pending", 10, 100, "Pending"],
        ["Queued", 40, 100, "Queued"],
        ["Started", 70, 100, "Started"],
    ]
    assert told[-1] == ["Finished", 100, 100, "Finished"]


def test_show_progress_of_one_that_fails(worker, somebody, visit):
    bodies.let_through(2)
    page = visit(somebody, "/seeds/show_progress/?items=good,bad")

    dialog = page.get_by_role("dialog", name="tests.live.bodies.my_long_running_job failed")
    expect(dialog).to_contain_text("ValueError: the bad one")
    expect(page.locator(BAR)).to_have_count(0)
    assert page.locator(".alert").count() == 0
    # Not what it said before it failed.
    assert shown(page)[-1] == ["Failed", 100, 100, "Failed"]


def test_titles_that_are_left_out_and_what_stands_there_at_once(workshop, somebody, visit):
    task = taskcontrol.enqueue(tasks.nothing, paused=True, created_by=somebody.user)
    page = visit(somebody, "/seeds/")
    page.evaluate("(name) => taskcontrol.show_progress(name)", task.name)
    page.evaluate("taskcontrol.show_batch_progress('later')")
    titles, texts = (page.locator(f"{BAR}-{part}") for part in ("title", "text"))
    expect(titles).to_have_text([f"Task {task.name}", "Processing…"])
    expect(texts).to_have_text(["Paused", "Starting…"])
    assert page.evaluate(
        "[...document.querySelectorAll('progress')].map((bar) => [bar.value, bar.max])"
    ) == [[10, 100], [0, 100]]


def test_show_batch_progress_of_a_batch_that_is_not_there_yet(worker, somebody, visit):
    page = visit(somebody, "/seeds/show_batch_progress/?batch_id=records")
    bar = page.locator(BAR)
    expect(bar.locator(".taskcontrol-bar-title")).to_have_text("Creating records")
    expect(bar).to_contain_text("Starting…")

    with acting_as(somebody.user):
        work = {"method": tasks.nothing, "job_name": "Create one"}
        taskcontrol.bulk_enqueue([work] * 3, batch_id="records")

    expect(page.locator(".alert")).to_have_text("3 of 3 created")
    assert page.evaluate("refreshed") == 1
    expect(bar).to_have_count(0)
    assert shown(page)[-1] == ["Finished", 3, 3, "3 / 3 Create one: Finished"]


def test_show_batch_progress_opened_after_the_end(worker, somebody, visit):
    with acting_as(somebody.user):
        taskcontrol.bulk_enqueue([{"method": tasks.nothing}] * 3, batch_id="records")
    eventually(lambda: taskcontrol.batches.progress("records")["done"] == 3)

    page = visit(somebody, "/seeds/show_batch_progress/?batch_id=records")

    expect(page.locator(".alert")).to_have_text("3 of 3 created")
    assert page.evaluate("refreshed") == 1


def two_phases(page):
    """Look at the page of the two phases until all is done."""
    expect(page.locator(".alert")).to_have_text("3 of 3 created", timeout=20_000)
    # The bar of the second phase stood in the place of the first one's, and left with it.
    expect(page.locator(BAR)).to_have_count(0)
    assert page.evaluate("refreshed") == 1
    last = "tests.live.bodies.process_item: Finished"
    assert shown(page)[-1] == ["Finished", 3, 3, f"3 / 3 {last}"]


def test_two_phases_coordinator_then_batch(worker, somebody, visit):
    page = visit(somebody, "/seeds/two_phases/")
    expect(page.locator(BAR)).to_have_count(1)
    two_phases(page)


def test_two_phases_where_the_server_does_not_stream(start_web, worker, somebody, visit):
    page = visit(somebody, "/seeds/two_phases/", start_web(asgi=False))
    two_phases(page)
    assert page.locator("html").get_attribute("data-taskcontrol") == "poll"


def test_the_raw_event_is_heard_of_every_status_of_ones_own_tasks(
    worker, somebody, visit, log_in
):
    page = visit(somebody, "/seeds/async_task_status/")
    expect(page.locator("html")).to_have_attribute("data-taskcontrol", "live")
    other = taskcontrol.enqueue(tasks.nothing, created_by=log_in("other").user)
    with acting_as(somebody.user):
        failing = taskcontrol.enqueue(tasks.fail, job_name="Import")
        taskcontrol.bulk_enqueue([{"method": tasks.nothing}] * 2, batch_id="two")
    names = {failing.name, *(task.name for task in TaskLog.objects.filter(batch_id="two"))}

    def ends():
        return {
            one["name"] for one in heard(page) if one["status"] in {"Failed", "Finished"}
        }

    eventually(lambda: ends() == names)
    told = heard(page)
    assert other.name not in {one["name"] for one in told}
    for name in names - {failing.name}:
        mine = [one for one in told if one["name"] == name]
        road = ["Pending", "Queued", "Started", "Finished"]
        assert [one["status"] for one in mine] == road
        assert {one["batch_id"] for one in mine} == {"two"}
    of_the_batch = [one for one in told if one["batch_id"]]
    assert max(one["batch_done"] for one in of_the_batch) == 2
    assert {one["batch_total"] for one in of_the_batch} == {2}
    (failed,) = [one for one in told if one["status"] == "Failed"]
    assert failed == {
        "name": failing.name,
        "job_name": "Import",
        "status": "Failed",
        "message": None,
        "error": "ValueError: it failed",
        "batch_id": None,
        "batch_done": None,
        "batch_total": None,
    }
