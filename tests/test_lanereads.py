"""``lanereads.py``: the first row of each line, and the first rows of some."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from hypothesis.extra.django import TestCase

from taskcontrol.lanereads import first_rows, read_heads
from taskcontrol.lanes import lane_of
from taskcontrol.models import QueueState
from taskcontrol.status import Status
from tests.factories import make_task, make_type, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

METHODS = ("m.a", "m.b", "m.c")
QUEUES = ("short", "default")

rows_of_tasks = st.lists(
    st.fixed_dictionaries(
        {
            "method": st.sampled_from(METHODS),
            "queue": st.sampled_from(QUEUES),
            "priority": st.sampled_from([None, -1, 5]),
            "at_front": st.booleans(),
            "position": st.integers(0, 3),
            "batch_order": st.integers(-2, 2),
            "status": st.sampled_from(
                [Status.PENDING] * 3 + [Status.PAUSED, Status.QUEUED, Status.FINISHED]
            ),
        }
    ),
    max_size=15,
)


def in_order(rows):
    return sorted(
        (row for row in rows if row.ready_lane is not None),
        key=lambda row: (not row.at_front, row.position, row.batch_order, row.pk),
    )


class LanesAgainstPlainPython(TestCase):
    """The statements against a few lines of Python, over random tables."""

    @given(rows=rows_of_tasks)
    @hypothesis_settings(max_examples=60, deadline=None)
    def test_the_heads_are_the_first_rows_of_each_lane(self, rows):
        tasks = [make_task(**row) for row in rows]
        expected = {}
        for row in in_order(tasks):
            expected.setdefault(row.ready_lane, row)

        heads = read_heads()

        assert {
            (head.lane, head.task_id, head.method, head.queue, head.priority)
            for head in heads
        } == {
            (lane, row.pk, row.method, row.queue, row.priority)
            for lane, row in expected.items()
        }
        assert len(heads) == len(expected)
        waiting = Counter(row.ready_lane for row in in_order(tasks))
        assert all(bool(head.more) is (waiting[head.lane] > 1) for head in heads)

    @given(rows=rows_of_tasks, counts=st.lists(st.integers(0, 4), min_size=1, max_size=12))
    @hypothesis_settings(max_examples=60, deadline=None)
    def test_the_fronts_are_as_many_first_rows_as_asked_for(self, rows, counts):
        tasks = [make_task(**row) for row in rows]
        lanes = sorted(
            {lane_of(row["queue"], row["method"], row["priority"]) for row in rows}
        )
        wanted = list(zip(lanes, counts, strict=False))
        expected = [
            (row.pk, lane, row.at_front, row.position, row.batch_order)
            for lane, count in wanted
            for row in [one for one in in_order(tasks) if one.ready_lane == lane][:count]
        ]

        assert fronts(wanted) == expected


def fronts(wanted):
    """Each lane's rows in the given order, lanes as wanted; databases mix the lanes."""
    found = first_rows(wanted)
    lanes = [lane for lane, _ in wanted]
    return [
        (pk, lane, bool(at_front), position, order)
        for pk, lane, at_front, position, order in sorted(
            found, key=lambda row: lanes.index(row[1])
        )
    ]


def test_no_lane_has_no_front():
    assert first_rows([]) == []
    assert read_heads() == []


def test_more_lanes_than_one_statement_takes_are_all_read():
    expected = {make_task(method=f"m.{number}").pk for number in range(230)}
    wanted = [(lane_of("default", f"m.{number}", None), 1) for number in range(230)]

    assert {row[0] for row in first_rows(wanted)} == expected


def test_a_head_tells_of_its_type():
    make_task()
    one = make_type(priority=4, concurrency_limit=2, usual_seconds=0.5)

    (head,) = read_heads()

    assert (head.kind, head.usual_priority) == (one.pk, 4)
    assert (head.concurrency_limit, head.usual_seconds) == (2, 0.5)


@pytest.mark.parametrize(
    ("columns", "once"),
    [
        ({"on_lost": "rerun", "declared": {}}, False),
        ({"on_lost": "fail", "declared": {}}, True),
        # Until a child has looked into the code, it may be so.
        ({"on_lost": "rerun", "declared": None}, True),
    ],
)
def test_a_head_tells_whether_its_type_may_begin_again(columns, once):
    make_task()
    make_type(**columns)

    (head,) = read_heads()

    assert bool(head.once) is once


def test_a_head_without_a_type_says_so():
    make_task()

    (head,) = read_heads()

    assert head.kind is None
    assert not head.held


PAUSES = [
    ({}, False),
    ({"paused_at": seconds_ago(5)}, True),
    # Far off, since these are made long before the last of them is used.
    ({"paused_at": seconds_ago(5), "paused_until": seconds_ago(-86400)}, True),
    ({"paused_at": seconds_ago(65), "paused_until": seconds_ago(60)}, False),
]


@pytest.mark.parametrize(("pause", "held"), PAUSES)
def test_a_head_tells_whether_its_type_is_paused(pause, held):
    make_task()
    make_type(**pause)

    (head,) = read_heads()

    assert bool(head.held) is held


@pytest.mark.parametrize(("pause", "held"), PAUSES)
def test_a_head_tells_whether_its_queue_is_paused(pause, held):
    make_task()
    make_type()
    QueueState.objects.create(name="default", **pause)

    (head,) = read_heads()

    assert bool(head.held) is held
