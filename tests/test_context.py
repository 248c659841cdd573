"""The context variables: what runs here and for whom."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from taskcontrol.context import acting_as, current_task, current_user, running


def task_of(user):
    return SimpleNamespace(user=user)


def test_outside_of_everything_there_is_no_task_and_no_user():
    assert current_task() is None
    assert current_user() is None


def test_the_running_task_and_its_user_are_seen_inside_only():
    task = task_of("ann")

    with running(task):
        assert current_task() is task
        assert current_user() == "ann"

    assert current_task() is None
    assert current_user() is None


def test_nothing_leaks_when_the_body_raises():
    with pytest.raises(KeyboardInterrupt), running(task_of("ann")):
        raise KeyboardInterrupt
    with pytest.raises(SystemExit), acting_as("bea"):
        raise SystemExit

    assert current_task() is None
    assert current_user() is None


def test_a_task_inside_a_task_gives_way_to_the_outer_one():
    outer, inner = task_of("ann"), task_of("bea")

    with running(outer):
        with running(inner):
            assert current_task() is inner
        assert current_task() is outer


def test_the_task_decides_before_the_request():
    with acting_as("request"), running(task_of("task")):
        assert current_user() == "task"


def test_a_task_of_the_system_does_not_take_the_user_of_the_request():
    with acting_as("request"), running(task_of(None)):
        assert current_user() is None


def test_another_thread_sees_nothing_of_it():
    seen = []

    with running(task_of("ann")):
        thread = threading.Thread(target=lambda: seen.append(current_task()))
        thread.start()
        thread.join()

    assert seen == [None]


def test_two_async_tasks_do_not_see_each_other():
    async def body(name, arrived, go):
        with acting_as(name):
            arrived.set()
            await go.wait()
            return current_user()

    async def both():
        first, second, go = asyncio.Event(), asyncio.Event(), asyncio.Event()
        bodies = asyncio.gather(body("ann", first, go), body("bea", second, go))
        await first.wait()
        await second.wait()
        go.set()
        return await bodies

    assert asyncio.run(both()) == ["ann", "bea"]
