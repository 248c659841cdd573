"""The module in a real browser: bars that tell the truth, whatever was missed (P10)."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

import taskcontrol
from tests import tasks
from tests.live import bodies
from tests.waiting import eventually

# What the database is makes no difference to a browser.
pytestmark = [pytest.mark.integration, pytest.mark.only_on("sqlite")]

#: Shows a task and keeps what its handler hears.
SHOW = """([name, hide]) => {
    globalThis.heard = [];
    taskcontrol.show_progress(name, "Work", (event) => heard.push(event), hide);
}"""
SHOW_BATCH = """(id) => {
    globalThis.heard = [];
    taskcontrol.show_batch_progress(id, "Works", (event) => heard.push(event), false);
}"""


def statuses(page):
    """Return the statuses that the handler heard."""
    return page.evaluate("heard.map((event) => event.status)")


def test_a_bar_shows_each_step_and_goes_at_the_end(worker, boss, visit):
    page = visit(boss, "/admin/")
    task = taskcontrol.enqueue(tasks.nothing, paused=True)
    page.evaluate(SHOW, [task.name, True])
    bar = page.locator(".taskcontrol-bar")
    expect(bar.locator("progress")).to_have_js_property("value", 10)
    expect(bar.locator(".taskcontrol-bar-title")).to_have_text("Work")
    eventually(lambda: statuses(page) == ["Paused"])
    task.resume()
    expect(bar).to_have_count(0)
    assert statuses(page)[-3:] == ["Queued", "Started", "Finished"]


def test_a_bar_that_opens_after_the_end_shows_the_end_p10(worker, boss, visit):
    task = taskcontrol.enqueue(tasks.nothing)
    eventually(lambda: taskcontrol.get_job_status(task) == "Finished")
    page = visit(boss, "/admin/")
    page.evaluate(SHOW, [task.name, False])
    expect(page.locator(".taskcontrol-bar progress")).to_have_js_property("value", 100)
    assert statuses(page) == ["Finished"]


def test_the_handler_hears_of_a_failure_before_the_dialog_shows_the_error(
    worker, boss, visit
):
    page = visit(boss, "/admin/")
    task = taskcontrol.enqueue(tasks.fail)
    page.evaluate(
        """(name) => taskcontrol.show_progress(name, "Work", ({ status }) => {
            if (status === "Failed") globalThis.dialogs = document.querySelectorAll("dialog").length;
        })""",
        task.name,
    )
    dialog = page.locator("dialog.taskcontrol-dialog")
    expect(dialog).to_contain_text("ValueError: it failed")
    assert page.evaluate("dialogs") == 0
    dialog.get_by_role("button").click()
    expect(dialog).to_have_count(0)


def test_structured_progress_drives_the_bar_and_each_missing_field_its_status(
    worker, boss, visit
):
    page = visit(boss, "/admin/")
    task = taskcontrol.enqueue(bodies.report_and_wait)
    page.evaluate(SHOW, [task.name, False])
    bar = page.locator(".taskcontrol-bar")
    expect(bar.locator("progress")).to_have_js_property("value", 1)
    expect(bar.locator("progress")).to_have_js_property("max", 4)
    expect(bar).to_contain_text("one")
    measured = page.evaluate(
        """async () => {
            const url = document.querySelector("script[type=module][src*='taskcontrol']").src;
            const { measure } = await import(url);
            return [
                measure({ progress: { count: 3 } }, 70, 100, "Started"),
                measure({ progress: { total: 5 } }, 70, 100, "Started"),
                measure({ progress: { description: "now" } }, 70, 100, "Started"),
                measure({ progress: { count: 142, total: 100 } }, 70, 100, "Started"),
                measure({ progress: { count: 142 } }, 70, 100, "Started"),
                measure("a word", 70, 100, "Started"),
                measure(null, 70, 100, "Started"),
            ].map(({ count, total, text }) => [count, total, text]);
        }"""
    )
    assert measured == [
        [3, 100, "Started"],
        [3.5, 5, "Started"],
        [70, 100, "now"],
        [142, 100, "Started 142 (expected 100)"],
        [None, 100, "Started 142"],
        [70, 100, "a word"],
        [70, 100, "Started"],
    ]
    page.evaluate("(name) => taskcontrol.cancel(name, { reason: 'enough' })", task.name)
    eventually(lambda: statuses(page)[-1] == "Canceled")


def test_a_batch_bar_counts_the_rows_and_ends_with_the_last_one(worker, boss, visit):
    page = visit(boss, "/admin/")
    page.evaluate(SHOW_BATCH, "some")
    bar = page.locator(".taskcontrol-bar")
    expect(bar).to_contain_text("Starting…")
    taskcontrol.bulk_enqueue([{"method": tasks.nothing, "job_name": "Job"}] * 12, "some")
    expect(bar).to_contain_text("12 / 12 Job: Finished")
    last = page.evaluate("heard.at(-1)")
    assert (last["batch_id"], last["batch_done"], last["batch_total"]) == ("some", 12, 12)


def test_every_change_of_ones_own_tasks_is_told(worker, boss, visit):
    page = visit(boss, "/admin/")
    page.evaluate(
        """() => {
            globalThis.heard = [];
            taskcontrol.on("async_task_status", (event) => heard.push(event));
        }"""
    )
    expect(page.locator("html")).to_have_attribute("data-taskcontrol", "live")
    task = taskcontrol.enqueue(tasks.nothing, created_by=boss.user)
    eventually(lambda: "Finished" in statuses(page))
    assert {event["name"] for event in page.evaluate("heard")} == {task.name}


def test_a_page_tells_the_truth_after_a_restart_of_the_server_p10(
    start_web, worker, boss, visit
):
    server = start_web()
    page = visit(boss, "/admin/", server)
    task = taskcontrol.enqueue(tasks.nothing, paused=True)
    page.evaluate(SHOW, [task.name, False])
    eventually(lambda: statuses(page) == ["Paused"])
    server.process.kill()
    task.resume()
    eventually(lambda: taskcontrol.get_job_status(task) == "Finished")
    server.start()
    eventually(lambda: statuses(page)[-1] == "Finished")


def test_where_the_server_does_not_stream_the_page_polls_p10(
    start_web, worker, boss, visit
):
    page = visit(boss, "/admin/", start_web(asgi=False))
    task = taskcontrol.enqueue(tasks.nothing, paused=True)
    page.evaluate(SHOW, [task.name, False])
    eventually(lambda: statuses(page) == ["Paused"])
    expect(page.locator("html")).to_have_attribute("data-taskcontrol", "poll")
    task.resume()
    eventually(lambda: statuses(page)[-1:] == ["Finished"])


def test_eight_tabs_of_one_browser_all_open_and_all_hear(worker, boss, visit, web):
    first = visit(boss, "/admin/")
    task = taskcontrol.enqueue(tasks.nothing, paused=True)
    tabs = [first, *(first.context.new_page() for _ in range(7))]
    for tab in tabs:
        tab.goto(f"{web.url}/admin/", timeout=10_000)
        tab.evaluate(SHOW, [task.name, False])
    taskcontrol.cancel(task)
    for tab in tabs:
        eventually(lambda tab=tab: statuses(tab)[-1:] == ["Canceled"], timeout=20)


def test_a_hidden_tab_leaves_its_connection_and_hears_again_when_it_is_seen(
    worker, boss, visit
):
    page = visit(boss, "/admin/")
    task = taskcontrol.enqueue(tasks.nothing, paused=True)
    page.evaluate(SHOW, [task.name, False])
    how = page.locator("html")
    expect(how).to_have_attribute("data-taskcontrol", "live")
    page.evaluate(HIDE, True)
    expect(how).to_have_attribute("data-taskcontrol", "poll")
    page.evaluate(HIDE, False)
    expect(how).to_have_attribute("data-taskcontrol", "live")
    taskcontrol.cancel(task)
    eventually(lambda: statuses(page)[-1:] == ["Canceled"])


#: Makes the page believe that its tab is hidden or seen.
HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""
