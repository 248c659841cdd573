"""The stream of a page: the truth first, then each change, to those who may see it (P8, P10)."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection
from typing import NamedTuple

import pytest

import taskcontrol
from taskcontrol import bell, pokes
from taskcontrol.live.asking import watch_token
from tests import tasks
from tests.live import bodies
from tests.waiting import eventually


def somebody_listens() -> bool:
    """Return whether the web server said so to Redis, which another test may have emptied."""
    return bool(bell.connect(timeout=5).exists(pokes.WATCHED))


class Known(NamedTuple):
    """Somebody of whom only the cookie is left."""

    cookie: str


pytestmark = pytest.mark.integration


def test_a_stream_tells_the_state_first_and_then_each_change_p10(web, worker, watch, boss):
    task = taskcontrol.enqueue(tasks.nothing, paused=True)
    stream = watch(boss, f"tasks={task.pk}")
    told = stream.snapshot()["tasks"][0]
    assert (told["name"], told["status"], told["rev"]) == (task.name, "Paused", task.rev)
    task.resume()
    eventually(lambda: stream.status_of(task) == "Finished")
    revs = [state["rev"] for state in stream.named("task")]
    assert revs == sorted(set(revs))


def test_a_stream_opened_after_the_end_tells_the_end_p10(web, worker, watch, boss):
    task = taskcontrol.enqueue(tasks.fail)
    eventually(lambda: taskcontrol.get_job_status(task) == "Failed")
    told = watch(boss, f"tasks={task.pk}").snapshot()["tasks"][0]
    assert (told["status"], told["ended"]) == ("Failed", True)
    assert told["error"] == "ValueError: it failed"


def test_progress_and_the_time_left_are_told(web, worker, watch, boss):
    task = taskcontrol.enqueue(bodies.report_and_wait)
    stream = watch(boss, f"tasks={task.pk}")
    told = eventually(lambda: [one for one in _all(stream) if one["progress"]])[0]
    assert told["progress"]["total"] == 4
    assert told["message"] == {"progress": {"count": 1, "total": 4, "description": "one"}}
    taskcontrol.cancel(task)
    eventually(lambda: stream.status_of(task) == "Canceled")


def _all(stream):
    return [*stream.snapshot()["tasks"], *stream.named("task")]


def test_a_batch_may_be_watched_before_it_exists_and_ends_by_its_rows(
    web, worker, watch, boss
):
    stream = watch(boss, "batches=later")
    assert stream.snapshot()["missing"] == ["later"]
    taskcontrol.bulk_enqueue([{"method": tasks.nothing}] * 20, "later")
    eventually(lambda: any(one["ended"] for one in stream.named("batch")))
    last = stream.named("batch")[-1]
    assert (last["batch_done"], last["batch_total"]) == (20, 20)
    assert (last["status"], last["job_name"]) == ("Finished", "tests.tasks.nothing")
    assert all(one["batch_done"] <= one["batch_total"] for one in stream.named("batch"))


def test_what_is_forbidden_and_what_does_not_exist_are_answered_alike_p8(
    web, workshop, watch, somebody
):
    task = taskcontrol.enqueue(tasks.nothing, paused=True)
    told = watch(somebody, f"tasks={task.pk},987654").snapshot()
    assert told == {"tasks": [], "own": [], "batches": [], "missing": [task.name, "987654"]}


def test_the_owner_watches_without_the_permission_and_a_token_opens_one_task_p8(
    web, workshop, watch, somebody
):
    mine = taskcontrol.enqueue(tasks.nothing, paused=True, created_by=somebody.user)
    other = taskcontrol.enqueue(tasks.nothing, paused=True)
    asked = f"tasks={mine.pk},{other.pk}"
    assert [one["name"] for one in watch(somebody, asked).snapshot()["tasks"]] == [
        mine.name
    ]
    opened = watch(None, f"{asked}&tokens={watch_token(other)}").snapshot()["tasks"]
    assert [one["name"] for one in opened] == [other.name]
    assert watch(None, f"{asked}&tokens=forged:token").answer.status == 403


def test_ones_own_tasks_are_told_without_being_named(web, worker, watch, somebody):
    stream = watch(somebody, "own=1")
    assert stream.snapshot()["own"] == []
    mine = taskcontrol.enqueue(tasks.nothing, created_by=somebody.user)
    other = taskcontrol.enqueue(tasks.nothing)
    eventually(lambda: stream.status_of(mine) == "Finished")
    assert stream.status_of(other) is None


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("tasks=one", "'one' is not the key of a task"),
        ("tasks=" + ",".join(map(str, range(201))), "200 tasks and batches at once"),
        ("batches=" + "b" * 141, "is not the id of a batch"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(web, watch, query, said, somebody):
    stream = watch(somebody, query)
    assert stream.answer.status == 400
    assert said in stream.answer.read().decode()


def test_a_person_has_ten_streams_and_then_polls(web, log_in, watch, somebody):
    opened = [watch(somebody, "own=1") for _ in range(10)]
    for stream in opened:
        stream.snapshot()
    assert watch(somebody, "own=1").answer.status == 503
    assert watch(log_in("other"), "own=1").answer.status == 200


def test_no_middleware_can_hold_a_stream_back(web, watch, somebody):
    headers = watch(somebody, "own=1").answer.headers
    assert headers["Content-Encoding"] == "identity"
    assert headers["Cache-Control"] == "no-store, no-transform"
    assert headers["X-Accel-Buffering"] == "no"


def test_without_redis_the_rows_are_read_every_second_p10(web, worker, broker, watch, boss):
    task = taskcontrol.enqueue(tasks.nothing, paused=True)
    stream = watch(boss, f"tasks={task.pk}")
    stream.snapshot()
    broker.stop()
    taskcontrol.cancel(task)
    eventually(lambda: stream.status_of(task) == "Canceled", timeout=5)


@pytest.mark.only_on("sqlite")
def test_open_streams_hold_no_connections_to_the_database(web, watch, somebody):
    before = web.connections()
    for _ in range(8):
        watch(somebody, "own=1").snapshot()
    # One of the reader, and that of the thread that asked who is there.
    eventually(lambda: web.connections() <= before + 2)


def test_who_logs_out_is_told_nothing_more_p8(web, workshop, watch, boss):
    stream = watch(boss, f"tasks={taskcontrol.enqueue(tasks.nothing, paused=True).pk}")
    assert stream.snapshot()["tasks"]
    eventually(somebody_listens)
    cookie = boss.cookie
    boss.client.logout()
    assert stream.ended.wait(10)
    assert watch(Known(cookie), stream.query).answer.status == 403


def test_a_page_hears_on_after_a_restart_of_the_server_p10(start_web, worker, watch, boss):
    server = start_web()
    task = taskcontrol.enqueue(tasks.nothing, paused=True)
    first = watch(boss, f"tasks={task.pk}", server)
    first.snapshot()
    server.restart()
    assert first.ended.wait(10)
    task.resume()
    again = watch(boss, f"tasks={task.pk}", server)
    eventually(lambda: again.status_of(task) == "Finished")


def test_a_server_with_open_streams_ends_when_it_is_told_to(start_web, watch, somebody):
    server = start_web()
    watch(somebody, "own=1", server).snapshot()
    assert server.process.stop(timeout=10) in {0, -15}


def test_under_wsgi_there_is_no_stream_and_the_state_is_asked_for(
    start_web, worker, watch, boss
):
    server = start_web(asgi=False)
    assert watch(boss, "own=1", server).answer.status == 204, server.process.tail()
    task = taskcontrol.enqueue(tasks.nothing, paused=True)
    status, tag, told = ask(server, boss, task)
    assert (status, told["tasks"][0]["status"]) == (200, "Paused")
    assert ask(server, boss, task, tag) == (304, tag, None)
    taskcontrol.cancel(task)
    status, other, told = ask(server, boss, task, tag)
    assert (status, told["tasks"][0]["status"]) == (200, "Canceled")
    assert other != tag


def ask(server, person, task, tag=""):
    """Ask for the state of ``task``, unless it is as ``tag`` says."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    headers = {"Cookie": person.cookie, "If-None-Match": tag}
    connection.request("GET", f"/taskcontrol/live/state?tasks={task.pk}", headers=headers)
    with closing(connection), connection.getresponse() as answer:
        body = answer.read()
        told = json.loads(body) if body else None
        return answer.status, answer.headers["ETag"], told
