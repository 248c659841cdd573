"""P4 for rates: the passes of all dispatchers together send no more than a type's rate says."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

import taskcontrol
from taskcontrol import broker as our_broker
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.exceptions import BrokerUnavailable
from taskcontrol.models import DispatcherState, TaskLog, TaskType, WaitInterval
from taskcontrol.rates import SECOND
from taskcontrol.status import Status
from taskcontrol.waits import where_it_went
from tests.factories import make_task, make_type, make_worker
from tests.waiting import eventually, race

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.databases,
    pytest.mark.usefixtures("broker"),
]

M = "tests.tasks.nothing"


def queued():
    return TaskLog.objects.filter(status=Status.QUEUED).count()


def pass_by(seconds):
    """Let so much time go by: for the rates alone, whose memory is moved back."""
    state = DispatcherState.objects.get()
    moved = {
        method: [[at - round(seconds * SECOND), number] for at, number in sent]
        for method, sent in state.sent.items()
    }
    DispatcherState.objects.update(sent=moved)


def test_no_more_are_sent_within_a_period_than_the_rate_says_p4():
    make_worker(pool_size=9)
    make_type(rate_limit="3/m")
    for _ in range(8):
        make_task()

    assert [dispatch_pending(), dispatch_pending()] == [3, 0]
    pass_by(50)
    assert dispatch_pending() == 0
    pass_by(10)
    assert [dispatch_pending(), dispatch_pending()] == [3, 0]


def test_a_type_at_its_rate_delays_no_other_p5():
    make_worker(pool_size=9)
    make_type(rate_limit="1/h", priority=100)
    for _ in range(3):
        make_task()
    others = [make_task(method="tests.tasks.add") for _ in range(2)]
    make_type("tests.tasks.add")

    assert dispatch_pending() == 3
    assert {
        one.status for one in TaskLog.objects.filter(pk__in=[o.pk for o in others])
    } == {Status.QUEUED}


def test_lanes_of_one_type_share_its_rate():
    make_worker(pool_size=9)
    make_type(rate_limit="3/m")
    for priority in (None, 1, 2):
        for queue in ("short", "long"):
            make_task(priority=priority, queue=queue)

    assert [dispatch_pending(), dispatch_pending()] == [3, 0]


def test_limit_and_rate_hold_together():
    make_worker(pool_size=9)
    make_type(rate_limit="3/m", concurrency_limit=2)
    for _ in range(5):
        make_task()

    assert dispatch_pending() == 2
    for task in TaskLog.objects.filter(status=Status.QUEUED):
        taskcontrol.cancel(task)
    assert dispatch_pending() == 1  # of three, two were sent


def test_a_change_takes_hold_at_the_next_pass_and_what_was_sent_counts():
    make_worker(pool_size=20)
    one = make_type(rate_limit="1/m")
    for _ in range(9):
        make_task()
    assert dispatch_pending() == 1

    one.rate_limit = "4/m"
    one.save()
    assert dispatch_pending() == 3
    one.rate_limit = ""
    one.save()
    assert dispatch_pending() == 5


def test_a_retry_counts_as_a_send():
    make_worker(pool_size=9)
    make_type(rate_limit="2/m")
    make_task()
    assert dispatch_pending() == 1
    make_task(Status.FAILED, max_retries=1, retry_at=timezone.now())
    make_task()

    assert dispatch_pending() == 1


def test_what_the_broker_did_not_take_counts_too(monkeypatch):
    make_worker(pool_size=9)
    make_type(rate_limit="2/m")
    make_task()

    def refuse(_messages):
        raise BrokerUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(our_broker, "publish", refuse)
        with pytest.raises(BrokerUnavailable):
            dispatch_pending()
    make_task()
    make_task()

    assert dispatch_pending() == 1  # some of them may have come through


def test_the_first_of_a_method_that_nobody_has_looked_at_counts():
    make_worker(pool_size=9)
    make_type(declared=None)
    for _ in range(4):
        make_task()
    assert dispatch_pending() == 1

    TaskType.objects.update(declared={"rate_limit": "2/m"}, rate_limit="2/m")

    assert dispatch_pending() == 1


def test_types_without_a_rate_leave_no_trace():
    make_worker()
    make_type()
    make_task()

    dispatch_pending()

    assert DispatcherState.objects.get().sent == {}


@pytest.mark.django_db(transaction=True)
def test_dispatchers_that_race_send_no_more_than_the_rate_says_p4():
    make_worker(pool_size=500)
    make_type(rate_limit="5/s")
    for _ in range(18):
        make_task()

    def rush():
        counts = race(*[dispatch_pending] * 4)
        assert all(isinstance(one, int) for one in counts), counts
        return queued() == 18

    eventually(rush, 30)

    times = sorted(TaskLog.objects.values_list("queued_at", flat=True))
    for first, sixth in zip(times, times[5:], strict=False):
        assert (sixth - first).total_seconds() > 0.999


# What is said of it


def test_explain_says_how_many_may_start_and_when_the_next_one():
    make_worker(pool_size=9)
    make_type(rate_limit="1/m")
    make_task()
    waiting = make_task()
    dispatch_pending()

    (found,) = [one for one in taskcontrol.explain(waiting) if one.code == "rate"]

    assert found.text.startswith(
        "Of its type at most 1 a minute may start; the next may at "
    )
    assert 50 < (found.until - timezone.now()).total_seconds() < 61
    assert "next_pass" not in [one.code for one in taskcontrol.explain(waiting)]


def test_tasks_of_a_type_at_its_rate_do_not_go_first():
    make_worker(pool_size=9)
    make_type(rate_limit="1/m", priority=9)
    make_type("tests.tasks.add")
    make_task()
    make_task()
    dispatch_pending()
    other = make_task(method="tests.tasks.add")

    assert [one.code for one in taskcontrol.explain(other)] == ["next_pass"]


def test_where_the_wait_went_names_the_rate():
    make_worker(pool_size=9)
    make_type(rate_limit="1/m")
    make_task()
    waiting = make_task()
    dispatch_pending()
    state = DispatcherState.objects.get()
    assert list(state.closed) == [f"rate:{M}"]
    DispatcherState.objects.update(
        closed={name: at - 60 * SECOND for name, at in state.closed.items()}
    )
    began = timezone.now() - timedelta(seconds=60)
    TaskLog.objects.filter(pk=waiting.pk).update(created_at=began)
    pass_by(60)

    assert dispatch_pending() == 1

    row = WaitInterval.objects.get()
    assert (row.scope, row.key) == ("rate", M)
    parts = where_it_went(TaskLog.objects.get(pk=waiting.pk), timezone.now())
    assert parts[0].text == "rate of its type"
