"""The signals that stop a body keep out of everything else in a worker's child."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from taskcontrol import interrupts
from taskcontrol.exceptions import TaskCanceled
from taskcontrol.models import TaskLog


class Late(Exception):
    """What the handler of the time limit raises."""


ROW = TaskLog(pk=1, attempt=1)


@pytest.fixture(autouse=True)
def handlers():
    """Handlers as in a worker's child."""

    def too_late(_number, _frame):
        raise Late

    before = {number: signal.getsignal(number) for number in interrupts._OURS}
    interrupts.install()
    signal.signal(interrupts.TIMEOUT, too_late)
    yield
    interrupts.forget()
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number):
    # To this thread: another one of this process might take what this one has blocked.
    signal.pthread_kill(threading.get_ident(), number)


STOPS = [(interrupts.CANCEL, TaskCanceled), (interrupts.TIMEOUT, Late)]


@pytest.mark.parametrize(("number", "raised"), STOPS)
def test_a_signal_stops_the_body(number, raised):
    with pytest.raises(raised), interrupts.allowed(ROW):
        send(number)


@pytest.mark.parametrize(("number", "raised"), STOPS)
def test_a_signal_that_comes_while_the_end_is_written_waits_and_is_dropped(number, raised):
    with interrupts.allowed(ROW):
        pass

    send(number)
    assert number in signal.sigpending()
    interrupts.forget()

    assert number not in signal.sigpending()
    with interrupts.allowed(ROW):
        pass


@pytest.mark.parametrize(("number", "raised"), STOPS)
def test_the_next_body_can_be_stopped_again(number, raised):
    with pytest.raises(raised), interrupts.allowed(ROW):
        send(number)
    interrupts.forget()

    with pytest.raises(raised), interrupts.allowed(ROW):
        send(number)


def test_a_cancel_between_two_bodies_stops_nothing():
    send(interrupts.CANCEL)
    interrupts.forget()
    send(interrupts.CANCEL)


def test_several_signals_stop_a_body_once():
    with pytest.raises(TaskCanceled), interrupts.allowed(ROW):
        send(interrupts.CANCEL)
    for number in interrupts._OURS:
        send(number)

    interrupts.forget()

    assert not signal.sigpending() & interrupts._OURS


def test_a_body_in_a_thread_blocks_no_signals():
    done = []
    # Bodies that other tests ran in this thread may have left them blocked.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def body():
        with interrupts.allowed(ROW):
            done.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        done.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        interrupts.forget()

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()

    assert done[0] == done[1]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_the_main_process_is_told_from_its_children(monkeypatch):
    monkeypatch.setattr(interrupts, "_main_process", None)
    assert interrupts.in_main_process() is False

    interrupts.mark_main_process()
    assert interrupts.in_main_process() is True

    monkeypatch.setattr(interrupts, "_main_process", os.getpid() + 1)
    assert interrupts.in_main_process() is False


def test_who_is_told_to_go_before_his_worker_has_said_that_it_leaves_waits_for_that_p1(
    monkeypatch,
):
    monkeypatch.setattr(interrupts, "LEAVING_TAKES", 30)
    monkeypatch.setattr(interrupts, "_leaving", bytearray(1))
    word = threading.Timer(0.1, interrupts.note_leaving)
    word.start()

    assert interrupts.worker_leaves()

    word.join()
    monkeypatch.setattr(interrupts, "LEAVING_TAKES", 0)
    monkeypatch.setattr(interrupts, "_leaving", bytearray(1))
    assert not interrupts.worker_leaves()


def test_a_process_goes_when_its_worker_says_so(monkeypatch):
    assert interrupts.process_must_go() is False
