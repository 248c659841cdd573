"""What a task prints and logs becomes its debug log: all of it, in bounds, and only its own."""

from __future__ import annotations

import io
import logging
import sys
import threading
from contextvars import copy_context

import pytest

from taskcontrol import output
from taskcontrol.output import captured
from tests import tasks
from tests.waiting import within


@pytest.fixture
def streams():
    """Begin with streams of the test's own; call it in the test: pytest has its own, too."""
    before = sys.stdout, sys.stderr
    level = logging.getLogger().level

    def begin():
        sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
        logging.getLogger().setLevel(logging.INFO)
        return sys.stdout, sys.stderr

    yield begin
    sys.stdout, sys.stderr = before
    logging.getLogger().setLevel(level)
    logging.getLogger().removeHandler(output._handler)


def say(text):
    print(text)  # noqa: T201 - the point


def test_prints_and_logs_are_captured_and_still_go_where_they_went(streams):
    out, err = streams()

    with captured() as capture:
        tasks.talk("here")

    told = capture.text()
    for piece in ("printed here", "stderr here", "logged here", "warned here"):
        assert piece in told
    assert "INFO tests.tasks: logged here" in told
    assert (out.getvalue(), err.getvalue()) == ("printed here\n", "stderr here\n")


def test_what_is_said_outside_of_a_task_is_not_captured():
    with captured() as first:
        say("one")
    say("between")
    with captured() as second:
        say("two")

    assert (first.text(), second.text()) == ("one\n", "two\n")


def test_tasks_in_threads_are_told_apart():
    captures = {}
    both = threading.Barrier(2)

    def body(name):
        with captured() as capture:
            both.wait(5)
            say(name)
            both.wait(5)
            captures[name] = capture.text()

    threads = [threading.Thread(target=copy_context().run, args=(body, n)) for n in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert captures == {"a": "a\n", "b": "b\n"}


def test_of_too_much_the_head_and_the_tail_stay_and_memory_does_not_grow(conf):
    conf(DEBUG_LOG_MAX_CHARS=1000)
    most = 0

    with captured() as capture, within(20):
        for number in range(5000):
            say(f"{number:06d} " + "x" * 93)
            most = max(most, sum(map(len, capture._parts)))

    told = capture.text()
    assert len(told) <= 1000
    assert told.startswith("000000")
    assert "004999" in told
    assert "characters cut" in told
    assert most < 6000


@pytest.mark.parametrize(
    "line",
    ["nul \0", "half \ud800", "x" * 10**6, "password=hunter2"],
    ids=["nul", "half", "long", "secret"],
)
def test_any_output_becomes_storable_and_free_of_secrets(line):
    with captured() as capture, within(20):
        say(line)

    told = capture.text()
    assert "hunter2" not in told
    assert len(told) <= 64 * 1024
    told.encode()
    assert "\0" not in told


def test_a_stream_that_is_closed_fails_no_task(streams):
    streams()[0].close()

    with captured() as capture:
        say("still")

    assert capture.text() == "still\n"


def test_a_log_line_that_cannot_be_made_fails_no_task(monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)

    with captured() as capture:
        logging.getLogger("x").info("%d", "no number")
        say("on")

    assert capture.text() == "on\n"


def test_what_celery_logs_of_a_print_is_not_told_twice():
    with captured() as capture:
        logging.getLogger("celery.redirected").warning("printed")

    assert capture.text() == ""


def test_the_streams_are_wrapped_once_and_stay_what_they_were(streams):
    streams()
    for _ in range(5):
        with captured():
            pass

    assert isinstance(sys.stdout, output._Tee)
    assert not isinstance(sys.stdout.stream, output._Tee)
    assert output._handler not in logging.getLogger().handlers
    assert sys.stdout.getvalue() == ""
    assert sys.stdout.isatty() is False
    sys.stdout.flush()


def test_warnings_of_a_process_without_handlers_are_printed_again(streams, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    _, errors = streams()

    with captured() as outer:
        with captured() as inner:
            logging.getLogger("shop").warning("within")
        logging.getLogger("shop").warning("still within")
    logging.getLogger("shop").warning("afterwards")

    assert "within" in inner.text()
    assert "still within" in outer.text()
    assert "afterwards" in errors.getvalue()


def test_a_terminal_is_one_again_when_the_task_is_over(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty, terminal.fileno = (lambda: True), (lambda: 1)
    monkeypatch.setattr(sys, "stdout", terminal)

    with captured():
        assert sys.stdout.isatty() is False
        with pytest.raises(io.UnsupportedOperation):
            sys.stdout.fileno()

    assert (sys.stdout.isatty(), sys.stdout.fileno()) == (True, 1)


def test_what_broke_off_is_captured_too():
    with captured() as capture:
        say("before")
        with pytest.raises(ValueError, match="it failed"):
            tasks.fail()
    say("after")

    assert capture.text() == "before\n"
