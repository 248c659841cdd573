"""Free slots are given out so that no slot stays empty by a wrong guess."""

from __future__ import annotations

import itertools

from hypothesis import given, strategies as st

from taskcontrol.slots import (
    LEAST,
    LEAST_BY_HAND,
    LOOKAHEAD,
    SHORT,
    Pool,
    Slots,
    cost_by_hand,
    slots_taken,
)

QUEUES = "abcd"

pools = st.lists(
    st.builds(
        Pool,
        queues=st.sets(st.sampled_from(QUEUES), min_size=1).map(frozenset),
        size=st.integers(0, 3),
        busy=st.integers(0, 4),
    ),
    max_size=4,
)
wishes = st.lists(st.sampled_from(QUEUES), max_size=10)


def fits(pools, queues):
    """Return whether tasks of these queues find a slot each: tries every way."""
    if not queues:
        return True
    first, *rest = queues
    for number, (served, free) in enumerate(pools):
        if first in served and free > 0:
            less = [*pools[:number], (served, free - 1), *pools[number + 1 :]]
            if fits(less, rest):
                return True
    return False


def most(pools, wanted):
    """Return which wishes are met when each is met if it can be, in their order."""
    free = [(pool.queues, max(pool.size - pool.busy, 0)) for pool in pools]
    met = []
    for queue in wanted:
        met.append(queue)
        if not fits(free, met):
            met.pop()
    return met


@given(pools, wishes)
def test_every_wish_is_met_that_can_be_met_beside_those_before(given_pools, wanted):
    expected = most(given_pools, wanted)
    slots = Slots(given_pools)

    assert [queue for queue in wanted if slots.take(queue, None)] == expected
    assert all(pool.free >= 0 or pool.busy > pool.size for pool in slots.pools)


@given(pools, wishes)
def test_room_is_never_less_than_what_can_be_taken(given_pools, wanted):
    slots = Slots(given_pools)
    for queue in wanted:
        slots.take(queue, None)
    for queue in QUEUES:
        room, sure = slots.room(queue), slots.has_room(queue, None)
        taken = sum(slots.take(queue, None) for _ in range(room + 3))
        assert taken <= room
        assert (taken > 0) is sure


def test_a_promise_moves_to_another_worker_to_make_room():
    slots = Slots(
        [Pool(frozenset("ab"), 1), Pool(frozenset("bc"), 1), Pool(frozenset("c"), 1)]
    )

    assert [slots.take(queue, None) for queue in "bca"] == [True, True, True]
    assert not any(slots.take(queue, None) for queue in "abc")


def test_a_queue_that_no_worker_consumes_gets_no_slot():
    slots = Slots([Pool(frozenset("a"), 5)])

    assert (slots.serves("a"), slots.serves("b")) == (True, False)
    assert slots.take("b", None) is False
    assert (slots.room("b"), slots.has_room("b", 0.001)) == (0, False)


def test_no_pools_have_no_slots():
    assert Slots([]).any_left() is False
    assert Slots([Pool(frozenset("a"), 2, busy=2)]).any_left() is False
    assert Slots([Pool(frozenset("a"), 2, busy=1)]).any_left() is True


def test_a_worker_that_is_busier_than_its_size_has_no_slot():
    slots = Slots([Pool(frozenset("a"), 1, busy=3), Pool(frozenset("b"), 1)])

    assert slots.take("a", None) is False
    assert slots.take("b", None) is True


# Ahead of a free slot


def ahead(slots=2):
    return Pool(frozenset("a"), slots, busy=slots, lookahead=slots * LOOKAHEAD)


def test_short_work_waits_in_the_broker_up_to_a_tenth_of_a_second_for_each_slot():
    slots = Slots([ahead(2)])

    taken = sum(slots.take("a", 0.01) for _ in range(100))

    assert taken in {19, 20}  # a sum of hundredths
    assert slots.has_room("a", 0.01) is False


def test_even_the_shortest_work_is_counted():
    slots = Slots([ahead(1)])

    taken = sum(slots.take("a", 0.0) for _ in range(1000))

    assert round(LOOKAHEAD / LEAST) - 1 <= taken <= round(LOOKAHEAD / LEAST)


def test_what_is_long_or_unknown_never_waits_in_the_broker():
    slots = Slots([ahead()])

    for usual in (None, SHORT + 0.001, 10):
        assert slots.take("a", usual) is False
        assert slots.has_room("a", usual) is False
    assert slots.take("a", SHORT) is True


def test_a_free_slot_is_used_before_the_lookahead():
    pool = Pool(frozenset("a"), 1, lookahead=LOOKAHEAD)
    slots = Slots([pool])

    slots.take("a", 0.01)

    assert (pool.free, pool.lookahead) == (0, LOOKAHEAD)


def test_every_order_of_the_same_wishes_meets_as_many():
    queues = [frozenset("ab"), frozenset("bc"), frozenset("ca")]
    for wanted in itertools.permutations("aabbcc"):
        slots = Slots([Pool(served, 2) for served in queues])
        assert sum(slots.take(queue, None) for queue in wanted) == 6


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_nothing_is_left_where_a_body_that_is_not_short_holds_each_slot(numbers):
    pool = Pool(frozenset("a"))
    for number in numbers:
        pool.size += number
        pool.lookahead += number * LOOKAHEAD
    for number in numbers:
        # As the bodies of several types and workers are counted: in groups, one by one.
        for part in (number // 2, number - number // 2):
            pool.busy += part
            pool.lookahead = max(pool.lookahead - part * LOOKAHEAD, 0)

    assert not Slots([pool]).any_left()


def test_what_is_left_of_the_lookahead_is_used_to_the_last_run():
    slots = Slots([Pool(frozenset("a"), size=1, busy=1, lookahead=LEAST)])

    assert slots.any_left()
    assert slots.take("a", LEAST)
    assert not slots.any_left()


def test_no_run_costs_nothing_and_one_of_unknown_length_costs_much():
    assert (cost_by_hand(0.0), cost_by_hand(None)) == (LEAST_BY_HAND, LOOKAHEAD)


def test_what_is_claimed_takes_the_slots_that_no_body_has_and_no_more():
    assert slots_taken(bodies=1, claimed=2, size=4) == 3
    assert slots_taken(bodies=1, claimed=9, size=4) == 4
    assert slots_taken(bodies=5, claimed=9, size=4) == 5
