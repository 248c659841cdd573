"""The module in a real browser when something goes wrong: what it shows stays true (P8, P10)."""

from __future__ import annotations

import pytest
from playwright.sync_api import Error, expect

import taskcontrol
from taskcontrol.context import acting_as
from taskcontrol.live.asking import watch_token
from taskcontrol.models import TaskBatch, TaskLog
from tests import tasks
from tests.factories import make_task
from tests.live import bodies
from tests.live.test_module import HIDE
from tests.waiting import eventually

# What the database is makes no difference to a browser.
pytestmark = [pytest.mark.integration, pytest.mark.only_on("sqlite")]

PAGE = "/seeds/"
BAR = ".taskcontrol-bar"
ON = "void taskcontrol.on('async_task_status', (event) => heard.push(event))"
SUBSCRIBE = """([keys, tokens]) => taskcontrol.subscribe(
    { tasks: keys, tokens }, ({ state }) => heard.push(state)
)"""
ROAD = ["Pending", "Queued", "Started", "Finished"]


def statuses_of(page, task):
    """Return the statuses that were heard of a task, repetitions left out."""
    told = page.evaluate("heard.map(({ name, status }) => [name, status])")
    mine = [status for name, status in told if name == task.name]
    return [now for before, now in zip([None, *mine], mine, strict=False) if now != before]


def hears(page):
    """Wait until the page has heard anything."""
    expect(page.locator("html")).to_have_attribute("data-taskcontrol", "live")


def ended(*rows):
    """Wait until these have ended, without asking the page."""
    for row in rows:
        eventually(lambda row=row: TaskLog.objects.get(pk=row.pk).ended)


#: A status and its attempt before and now, and what is told: this attempt was queued and
#: began, where that is possible.
ROADS = [
    (("Pending", 0), ("Finished", 1), ["Queued", "Started", "Finished"]),
    (("Queued", 1), ("Started", 1), ["Started"]),
    (("Queued", 1), ("Finished", 1), ["Started", "Finished"]),
    (("Paused", 0), ("Started", 1), ["Pending", "Queued", "Started"]),
    (("Paused", 0), ("Pending", 0), ["Pending"]),
    (("Pending", 0), ("Canceled", 0), ["Canceled"]),
    (("Queued", 1), ("Pending", 1), ["Pending"]),
    (("Queued", 1), ("Paused", 1), ["Paused"]),
    (("Started", 1), ("Pending", 1), ["Pending"]),
    (("Started", 1), ("Queued", 2), ["Pending", "Queued"]),
    (("Failed", 1), ("Pending", 1), ["Pending"]),
    (("Failed", 1), ("Canceled", 1), ["Canceled"]),
    (("Failed", 1), ("Finished", 2), ROAD),
    (("Pending", 1), ("Finished", 2), ["Queued", "Started", "Finished"]),
]
WALK = """async (pairs) => {
    const url = document.querySelector("script[src*='taskcontrol/taskcontrol']").src;
    const { road } = await import(url);
    const times = { queued_at: "2026-01-01T10:00:00Z", started_at: "2026-01-01T10:00:01Z" };
    const state = ([status, attempt]) => ({ status, attempt, ...times });
    return pairs.map(([before, now]) => road(state(before), state(now)).map(({ status }) => status));
}"""


def test_every_status_between_two_readings_is_told(visit):
    page = visit(None, PAGE)
    walked = page.evaluate(WALK, [[before, now] for before, now, _ in ROADS])
    assert walked == [told for _, _, told in ROADS]


def test_own_tasks_that_ended_while_the_server_was_away_are_told_p10(
    start_web, worker, somebody, visit
):
    server = start_web()
    with acting_as(somebody.user):
        waiting = taskcontrol.enqueue(tasks.nothing, paused=True)
        page = visit(somebody, PAGE, server)
        page.evaluate(ON)
        hears(page)
        server.process.kill()
        waiting.resume()
        new = taskcontrol.enqueue(tasks.nothing)
    ended(waiting, new)
    server.start()
    for task in (waiting, new):
        eventually(lambda task=task: statuses_of(page, task) == ROAD, timeout=20)


def test_an_own_task_enqueued_at_the_same_moment_is_told_and_an_old_one_is_not(
    worker, somebody, visit
):
    with acting_as(somebody.user):
        old = taskcontrol.enqueue(tasks.nothing)
    ended(old)
    bodies.let_through(3)
    page = visit(somebody, PAGE)
    page.evaluate(
        f"{ON}; call({{ method: 'myapp.api.start_import', callback: () => undefined }})"
    )
    new = eventually(lambda: TaskLog.objects.exclude(pk=old.pk).first())
    eventually(lambda: statuses_of(page, new) == ROAD)
    assert statuses_of(page, old) == []


def test_a_bar_of_a_task_that_was_run_again_begins_anew(worker, boss, visit):
    task = taskcontrol.enqueue(tasks.fail_until, attempt=2)
    page = visit(boss, PAGE)
    # Another part of the page knows of it too, and goes on to.
    page.evaluate(SUBSCRIBE, [[task.name], []])
    page.evaluate("(name) => taskcontrol.show_progress(name)", task.name)
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    page.evaluate(
        """async (name) => {
            await taskcontrol.retry(name);
            globalThis.ends = taskcontrol.show_progress(name).finished;
        }""",
        task.name,
    )
    assert page.evaluate("ends.then(({ status }) => status)") == "Finished"
    assert page.get_by_role("dialog").count() == 0


def test_a_failure_that_is_older_than_the_page_is_shown_p10(worker, boss, visit):
    task = taskcontrol.enqueue(tasks.fail)
    ended(task)
    page = visit(boss, PAGE)
    page.evaluate(
        "(name) => taskcontrol.show_progress(name, 'Work', null, false)", task.name
    )
    expect(page.get_by_role("dialog")).to_contain_text("ValueError: it failed")
    expect(page.locator("[role=alert]")).to_have_text("ValueError: it failed")


def test_a_bar_that_stays_is_closed_by_hand(worker, boss, visit):
    task = taskcontrol.enqueue(tasks.nothing)
    page = visit(boss, PAGE)
    page.evaluate(
        "(name) => taskcontrol.show_progress(name, 'Work', null, false)", task.name
    )
    bar = page.locator(BAR)
    expect(bar).to_contain_text("Finished")
    bar.get_by_role("button", name="Close").click()
    expect(bar).to_have_count(0)


def test_what_a_member_says_of_itself_never_ends_the_bar_of_its_batch_p9(
    worker, boss, visit
):
    page = visit(boss, PAGE)
    page.evaluate("taskcontrol.show_batch_progress('two')")
    full = {"method": bodies.report_and_wait, "arguments": {"count": 4}}
    taskcontrol.bulk_enqueue([full, {"method": tasks.nothing, "paused": True}], "two")
    bar = page.locator(BAR)
    expect(bar).to_contain_text("0 / 2 one")
    expect(bar.locator("progress")).to_have_js_property("value", 0)
    for task in TaskLog.objects.filter(batch_id="two"):
        expect(bar).to_have_count(1)
        taskcontrol.cancel(task)
    expect(bar).to_have_count(0)
    assert page.evaluate("seen.at(-1)")[:3] == ["Canceled", 2, 2]


def test_more_than_was_expected_fills_the_bar_and_is_told_in_words(worker, boss, visit):
    task = taskcontrol.enqueue(
        bodies.report_and_wait, count=142, total=100, description=None
    )
    page = visit(boss, PAGE)
    page.evaluate("(name) => taskcontrol.show_progress(name)", task.name)
    expect(page.locator(BAR)).to_contain_text("Started 142 (expected 100)")
    expect(page.locator(f"{BAR} progress")).to_have_js_property("value", 100)
    taskcontrol.cancel(task)
    expect(page.locator(BAR)).to_have_count(0)


#: Seconds within which a page is right: one is promised, four are for a busy machine.
RIGHT_WITHIN = 1.0 + 4.0
#: The moment at which the page heard of each status of a task, in seconds since 1970.
WHEN = """(name) => {
    globalThis.when = {};
    taskcontrol.subscribe({ tasks: [name] }, ({ state }) => {
        when[state.status] ??= Date.now() / 1000;
    });
}"""


def test_a_page_is_right_within_a_second_without_redis_p10(
    web, worker, broker, boss, visit
):
    task = taskcontrol.enqueue(tasks.nothing, paused=True)
    page = visit(boss, PAGE)
    page.evaluate(WHEN, task.name)
    eventually(lambda: "Paused" in page.evaluate("when"))
    broker.stop()
    taskcontrol.cancel(task)
    committed_at = page.evaluate("Date.now() / 1000")  # one clock for both
    eventually(lambda: "Canceled" in page.evaluate("when"))
    assert page.evaluate("when")["Canceled"] - committed_at <= RIGHT_WITHIN


def test_who_logs_out_is_told_no_more_than_any_visitor_p8(workshop, boss, visit):
    mine, opened = (taskcontrol.enqueue(tasks.nothing, paused=True) for _ in range(2))
    page = visit(boss, PAGE)
    page.evaluate(SUBSCRIBE, [[mine.name, opened.name], [watch_token(opened)]])
    eventually(lambda: statuses_of(page, mine) == statuses_of(page, opened) == ["Paused"])
    # The news of it may be lost: then the stream itself asks again within a minute.
    with page.expect_request(lambda request: "/live/stream" in request.url, timeout=90_000):
        boss.client.logout()
    taskcontrol.cancel(mine)
    taskcontrol.cancel(opened)
    eventually(lambda: statuses_of(page, opened) == ["Paused", "Canceled"], timeout=20)
    assert statuses_of(page, mine) == ["Paused"]


def test_a_page_without_a_login_shows_what_a_token_opens_p8(worker, visit):
    task = taskcontrol.enqueue(bodies.report_and_wait)
    page = visit(None, PAGE)
    page.evaluate(
        """([name, token]) => {
            const shown = document.createElement("taskcontrol-progress");
            for (const [key, value] of Object.entries({ task: name, token, title: "Yours", keep: "" })) {
                shown.setAttribute(key, value);
            }
            document.body.append(shown);
        }""",
        [task.name, watch_token(task)],
    )
    bar = page.get_by_role("progressbar", name="Yours")
    expect(bar).to_have_js_property("max", 4)
    taskcontrol.cancel(task)
    expect(page.locator(BAR)).to_contain_text("Canceled")
    assert page.locator(BAR).get_by_role("button").count() == 0


def test_a_task_of_others_looks_like_none_p8(workshop, somebody, visit):
    others = make_task("Finished")
    mine = make_task("Finished", created_by=somebody.user)
    page = visit(somebody, PAGE)
    names = [others.name, "987654", mine.name]
    page.evaluate(
        "(names) => names.forEach((name) => taskcontrol.show_progress(name, name, null, false))",
        names,
    )
    bars = page.locator(f"{BAR}-text")
    expect(bars).to_have_text(["Pending", "Pending", "Finished"])
    missing = page.evaluate("(tasks) => taskcontrol.getState({ tasks })", names)["missing"]
    assert sorted(missing) == sorted(names[:2])


NONSENSE = {
    "show_progress()": "undefined is not the name of a task",
    "show_progress('x')": "x is not the name of a task",
    "show_batch_progress(null)": "null is not the id of a batch",
    "subscribe({ tasks: [...Array(201).keys()] }, () => undefined)": "200 tasks and batches",
    "on('another')": "there is no event another",
}


def test_nonsense_is_refused_at_the_call_and_harms_no_other_part_of_the_page(
    workshop, boss, visit
):
    task = make_task("Finished")
    page = visit(boss, PAGE)
    for call, said in NONSENSE.items():
        with pytest.raises(Error, match=said):
            page.evaluate(f"void taskcontrol.{call}")
    expect(page.locator(BAR)).to_have_count(0)
    page.evaluate(SUBSCRIBE, [[task.name], []])
    eventually(lambda: statuses_of(page, task) == ["Finished"])


def test_a_batch_in_which_some_failed_says_so(worker, boss, visit):
    page = visit(boss, PAGE)
    page.evaluate("taskcontrol.show_batch_progress('two', 'Work', null, false)")
    work = [{"method": tasks.fail}, {"method": tasks.nothing}]
    taskcontrol.bulk_enqueue(work, "two")
    bar = page.locator(BAR)
    expect(bar).to_contain_text("2 / 2")
    expect(bar).to_contain_text("1 failed")
    expect(bar).to_have_attribute("data-status", "Failed")


def test_a_new_connection_tells_the_handler_nothing_twice(workshop, boss, visit):
    TaskBatch.objects.create(id="two", total=2)
    make_task("Finished", batch_id="two", job_name="one")
    page = visit(boss, PAGE)
    page.evaluate(
        "taskcontrol.show_batch_progress('two', 'Work', (event) => heard.push(event))"
    )
    eventually(lambda: page.evaluate("heard.length"))
    for hidden, how in ((True, "poll"), (False, "live")):
        page.evaluate(HIDE, hidden)
        expect(page.locator("html")).to_have_attribute("data-taskcontrol", how)
    make_task("Finished", batch_id="two", job_name="other")
    eventually(lambda: page.evaluate("heard.at(-1).job_name") == "other")
    told = page.evaluate("heard.map(({ job_name, batch_done }) => [job_name, batch_done])")
    assert told == [["one", 1], ["other", 2]]


def test_a_page_beyond_the_streams_of_one_person_polls(worker, boss, visit, watch):
    streams = [watch(boss, "own=1") for _ in range(10)]
    for stream in streams:
        stream.snapshot()
    task = taskcontrol.enqueue(tasks.nothing, paused=True)
    page = visit(boss, PAGE)
    page.evaluate(SUBSCRIBE, [[task.name], []])
    expect(page.locator("html")).to_have_attribute("data-taskcontrol", "poll")
    taskcontrol.cancel(task)
    eventually(lambda: statuses_of(page, task) == ["Paused", "Canceled"])


def test_where_the_server_does_not_stream_own_tasks_are_told_as_well(
    start_web, worker, somebody, visit
):
    page = visit(somebody, PAGE, start_web(asgi=False))
    page.evaluate(ON)
    expect(page.locator("html")).to_have_attribute("data-taskcontrol", "poll")
    with acting_as(somebody.user):
        task = taskcontrol.enqueue(tasks.nothing)
    eventually(lambda: statuses_of(page, task) == ROAD, timeout=20)
