"""The bell asks for a pass soon; it never blocks, never fails, and may be lost."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager

import pytest
from django.db import transaction

import taskcontrol
from taskcontrol import bell, pausing
from taskcontrol.models import QueueState, TaskLog
from taskcontrol.rescue import rescue_lost_tasks
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_task, make_type, make_worker, seconds_ago
from tests.servers.redis import Redis
from tests.waiting import eventually, race, within


@pytest.fixture
def ringer(monkeypatch):
    """A ringer of the test's own, that tries again soon."""
    monkeypatch.setattr(bell, "_BREAK_SECONDS", 0.2)
    monkeypatch.setattr(bell, "_ringer", bell._Ringer())
    return bell._ringer


@pytest.fixture
def pipe(monkeypatch):
    """This process is a worker's main one for the test."""
    monkeypatch.setattr(bell, "_pipe", bell._Pipe())
    bell.open_in_worker()
    yield bell._pipe
    os.close(bell._pipe.fileno)
    os.close(bell._pipe._write_end)


def rings(broker: Redis):
    with broker.client() as client:
        return client.llen(bell.KEY)


# By Redis


def test_a_ring_waits_in_the_list(broker, ringer):
    # One that takes longer than 100 ms is lost: the timer does what it asked.
    eventually(lambda: bell.ring() or rings(broker) == 1)


def test_many_rings_are_one(broker, ringer):
    with broker.client() as client:
        for _ in range(50):
            bell.ring_by(client)

    assert rings(broker) == 1


def test_rings_of_many_threads_need_one_connection(broker, ringer):
    def ring_often():
        for _ in range(200):
            bell.ring()

    with broker.client() as client:
        before = client.info("clients")["connected_clients"]
        threads = [threading.Thread(target=ring_often) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        eventually(lambda: bell.ring() or client.llen(bell.KEY) == 1)
        assert client.info("clients")["connected_clients"] <= before + 1


def test_who_asks_within_the_gap_shares_one_ring_after_it(broker, ringer, monkeypatch):
    rung, rests, go_on = [], [], threading.Semaphore(0)
    monkeypatch.setattr(bell, "ring_by", lambda _client: rung.append(1))
    monkeypatch.setattr(bell, "_rest", lambda gap: rests.append(gap) or go_on.acquire())
    bell.ring()
    eventually(lambda: rests == [bell._GAP])

    for _ in range(50):
        bell.ring()
    assert len(rung) == 1
    go_on.release()
    eventually(lambda: len(rests) == 2)

    assert len(rung) == 2
    assert not ringer._wanted.is_set()


def test_a_process_that_ends_rings_for_those_who_asked_last(broker, ringer, monkeypatch):
    rung, rests = [], []
    monkeypatch.setattr(bell, "ring_by", lambda _client: rung.append(1))
    monkeypatch.setattr(
        bell, "_rest", lambda gap: rests.append(gap) or threading.Event().wait()
    )
    bell.ring()
    eventually(lambda: rests)
    ringer.ring_at_exit()
    assert len(rung) == 1

    bell.ring()
    ringer.ring_at_exit()

    assert len(rung) == 2


def test_a_process_that_ends_over_a_ring_makes_it_again(broker, ringer, monkeypatch):
    rung, go_on = [], threading.Semaphore(0)
    monkeypatch.setattr(bell, "ring_by", lambda _client: rung.append(1) or go_on.acquire())
    bell.ring()
    eventually(lambda: rung)

    monkeypatch.setattr(bell, "ring_by", lambda _client: rung.append(2))
    ringer.ring_at_exit()

    assert rung == [1, 2]
    go_on.release()


def test_a_process_rings_at_its_end_only_for_itself(broker, ringer, monkeypatch):
    """Whoever forks past Python, as uWSGI does, has the state of its parent."""
    rung, go_on = [], threading.Semaphore(0)
    monkeypatch.setattr(bell, "ring_by", lambda _client: rung.append(1) or go_on.acquire())
    bell.ring()
    eventually(lambda: rung)
    ringer._owner = os.getppid()

    go_on.release()
    ringer.ring_at_exit()

    assert len(rung) == 1


def test_a_process_that_rings_at_its_end_does_so_once(ringer, broker, monkeypatch):
    registered = []
    monkeypatch.setattr("atexit.register", registered.append)
    bell.ring()
    assert registered == [ringer.ring_at_exit]

    ringer._owner = os.getppid()
    bell.ring()

    assert ringer._owner == os.getpid()
    assert len(registered) == 1


def test_a_process_ends_without_asking_a_redis_that_is_away(broker, ringer, monkeypatch):
    rests = []
    monkeypatch.setattr(
        bell, "_rest", lambda gap: rests.append(gap) or threading.Event().wait()
    )
    broker.kill()
    bell.ring()
    # The threads of other tests' ringers may rest here, too.
    eventually(lambda: ringer._fails and bell._BREAK_SECONDS in rests)
    bell.ring()
    asked = []
    monkeypatch.setattr(bell, "connect", lambda **_options: asked.append(1))

    ringer.ring_at_exit()

    assert not asked


@pytest.mark.parametrize("how", ["down", "frozen"])
def test_a_ring_never_waits_for_a_redis_that_is_away(broker, ringer, how):
    broker.kill() if how == "down" else broker.freeze()

    with within(2):
        for _ in range(1000):
            bell.ring()

    broker.start() if how == "down" else broker.thaw()
    eventually(lambda: bell.ring() or rings(broker) == 1)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_rings_with_a_thread_of_its_own(broker, ringer):
    eventually(lambda: bell.ring() or rings(broker) == 1)
    broker.flush()

    child = os.fork()
    if child == 0:
        eventually(lambda: bell.ring() or rings(broker) == 1)
        os._exit(0)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert rings(broker) == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_forked_while_others_ring_waits_for_none_of_their_locks(broker, ringer):
    with ringer._lock, ringer._wanted._cond:  # of threads that are not in the child
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(30)
            eventually(lambda: bell.ring() or rings(broker) == 1)
            os._exit(0)
    _, status = os.waitpid(child, 0)

    assert status == 0


def test_a_bell_whose_thread_cannot_begin_fails_nobody_and_begins_later(
    broker, ringer, monkeypatch
):
    start, failures = threading.Thread.start, ["no room"]

    def fail_once(self):
        if failures:
            raise RuntimeError(f"can't start new thread: {failures.pop()}")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", fail_once)
    bell.ring()
    assert not failures

    eventually(lambda: bell.ring() or rings(broker) == 1)


def test_who_asks_while_a_ring_is_on_its_way_has_one_after_it(broker, ringer, monkeypatch):
    """What is committed by then is not seen by the pass that the first one asked for."""
    rung, go_on = [], threading.Semaphore(0)
    monkeypatch.setattr(bell, "ring_by", lambda _client: rung.append(1) or go_on.acquire())
    bell.ring()
    eventually(lambda: len(rung) == 1)

    bell.ring()
    go_on.release(2)

    eventually(lambda: len(rung) == 2)


class Together:
    """A lock at which two must have arrived before the first gets it."""

    def __init__(self):
        self.both, self.lock = threading.Barrier(2), threading.Lock()

    def __enter__(self):
        self.both.wait(60)
        self.lock.acquire()

    def __exit__(self, *_error):
        self.lock.release()


@pytest.mark.django_db(transaction=True)
def test_two_who_ring_first_at_the_same_moment_begin_one_thread(
    broker, ringer, monkeypatch
):
    begun = []
    monkeypatch.setattr(ringer, "_serve", lambda: begun.append(1))
    ringer._lock = Together()

    assert race(bell.ring, bell.ring) == [None, None]

    assert len(begun) == 1


@pytest.mark.django_db(transaction=True)
def test_a_bell_that_fails_fails_no_commit_p1(ringer, monkeypatch):
    monkeypatch.setattr(ringer, "ring", lambda: 1 / 0)

    with transaction.atomic():
        taskcontrol.enqueue(tasks.nothing)
    taskcontrol.enqueue(tasks.nothing)

    assert TaskLog.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_request_rings_after_the_commit_and_not_after_a_rollback(broker, ringer):
    with transaction.atomic():
        taskcontrol.request_dispatch()
        transaction.set_rollback(True)
    with transaction.atomic():
        taskcontrol.request_dispatch()
        assert rings(broker) == 0

    eventually(lambda: taskcontrol.request_dispatch() or rings(broker) == 1)


def test_without_a_redis_nothing_rings(ringer, settings):
    settings.TASKCONTROL = {}
    settings.CELERY_BROKER_URL = "amqp://guest@nowhere"

    bell.ring()

    assert ringer._owner is None
    assert bell.connect(timeout=1) is None
    bell.listen(threading.Event())


@pytest.mark.parametrize(
    ("given", "broker_url", "expected"),
    [
        ("redis://cache/3", "redis://broker/0", "redis://cache/3"),
        (None, "redis://broker/0", "redis://broker/0"),
        (None, "rediss://broker/0", "rediss://broker/0"),
        (None, "redis+socket:///run/r.sock", "unix:///run/r.sock?db=0"),
        (None, "redis+socket:///run/r.sock?virtual_host=2", "unix:///run/r.sock?db=2"),
        (
            None,
            "redis+socket:///run/r.sock?virtual_host=2&x=y",
            "unix:///run/r.sock?db=2",
        ),
        (None, "amqp://broker", None),
        (None, "memory://", None),
        (None, None, None),
        ("", "", None),
    ],
)
def test_the_bell_hangs_where_the_broker_is_unless_told(
    settings, given, broker_url, expected
):
    settings.TASKCONTROL = {"REDIS_URL": given}
    settings.CELERY_BROKER_URL = broker_url

    assert bell.redis_url() == expected


# In a worker


def test_in_a_worker_the_bell_needs_no_redis(pipe, broker):
    broker.kill()
    assert bell.wait(0) is False

    for _ in range(3):
        bell.ring()

    assert bell.wait(5) is True
    assert bell.wait(0) is False


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_rings_the_bell_of_its_parent(pipe):
    child = os.fork()
    if child == 0:
        bell.ring()
        os._exit(0)
    os.waitpid(child, 0)

    assert bell.wait(5) is True


def test_a_full_pipe_keeps_nobody_waiting(pipe):
    with within(20):
        for _ in range(100_000):
            bell.ring()

    assert bell.wait(0) is True
    # One pass answers many rings, however many there were.
    eventually(lambda: not bell.wait(0), every=0)


def test_a_worker_opens_its_bell_once(pipe):
    before = pipe.fileno

    bell.open_in_worker()

    assert bell._pipe.fileno == before


def test_only_a_worker_waits_for_the_bell(monkeypatch):
    monkeypatch.setattr(bell, "_pipe", bell._Pipe())

    with pytest.raises(RuntimeError, match="main process"):
        bell.wait(0)


@contextmanager
def listening():
    stopped = threading.Event()
    thread = threading.Thread(target=bell.listen, args=(stopped,), daemon=True)
    thread.start()
    yield
    stopped.set()


def test_a_ring_from_elsewhere_reaches_the_worker(pipe, broker):
    with listening(), broker.client() as client:
        bell.ring_by(client)

        assert bell.wait(5) is True
        eventually(lambda: rings(broker) == 0)


def test_a_worker_hears_again_when_redis_is_back(pipe, broker, monkeypatch):
    monkeypatch.setattr(bell, "_BREAK_SECONDS", 0.1)
    with listening():
        broker.kill()
        broker.start()

        def ring_and_hear():
            with broker.client() as client:
                bell.ring_by(client)
            return bell.wait(0.1)

        eventually(ring_and_hear, timeout=20)


# Who rings


def cancel_what_holds_a_place():
    taskcontrol.cancel(make_task(Status.QUEUED))


def resume_a_task():
    taskcontrol.resume(make_task(Status.PAUSED))


def retry_a_task():
    taskcontrol.retry(make_task(Status.FAILED))


def resume_a_type():
    one = make_type("tests.tasks.nothing")
    pausing.pause_all(one)
    pausing.resume_all(one)


def resume_a_queue():
    one = QueueState.objects.create(name="long")
    pausing.pause_all(one)
    pausing.resume_all(one)


def resume_the_dispatcher():
    taskcontrol.toggle_dispatcher(False)
    taskcontrol.toggle_dispatcher(True)


def resume_a_batch():
    batch_id = taskcontrol.create_batch()
    taskcontrol.resume_batch(batch_id)


def cancel_a_batch():
    taskcontrol.cancel_batch(taskcontrol.create_batch())


def rescue_a_task():
    lost = make_worker(last_seen_at=seconds_ago(60))
    make_task(Status.STARTED, worker=lost)
    rescue_lost_tasks()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "act",
    [
        cancel_what_holds_a_place,
        resume_a_task,
        retry_a_task,
        resume_a_type,
        resume_a_queue,
        resume_the_dispatcher,
        resume_a_batch,
        cancel_a_batch,
        rescue_a_task,
    ],
    ids=lambda act: act.__name__,
)
def test_whatever_lets_a_task_run_rings_w17(
    act, monkeypatch, django_capture_on_commit_callbacks
):
    rung = []
    monkeypatch.setattr(bell, "ring", lambda: rung.append(1))

    with django_capture_on_commit_callbacks(execute=True):
        act()

    assert rung
