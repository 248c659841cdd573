"""``deck.py``: what a worker takes of a pass, in which order it waits, and what is forgotten."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from taskcontrol.deck import Claimed, Deck, Offer, Taken, size_of
from taskcontrol.slots import Pool, Slots

#: No database is asked.
pytestmark = pytest.mark.only_on("sqlite")

QUEUES = frozenset({"default"})


def card(number, **columns):
    return SimpleNamespace(pk=number, attempt=1, arguments="{}", **columns)


def claimed(*numbers):
    return [Claimed(card(number), Taken(0.001)) for number in numbers]


def offer(places=0, seconds=0.0, **each):
    return Offer(1, QUEUES, places, seconds, each)


def slots(size=2, busy=0):
    return Slots([Pool(QUEUES, size=size, busy=busy)])


def takes(one, where, usual, queue="default", number=1):
    return one.take(where, number, queue, "m", usual)


def test_a_child_that_has_nothing_to_do_takes_a_task_of_any_length():
    one, where = offer(places=1), slots()

    assert takes(one, where, None)
    assert not takes(one, where, 60.0)
    assert one.taken == {1: Taken(None)}


def test_no_child_is_taken_whose_slot_another_body_holds_p4():
    assert not takes(offer(places=2), slots(busy=2), None)


def test_only_what_is_short_goes_ahead_of_a_slot():
    one, where = offer(seconds=1.0), slots()

    assert not takes(one, where, 60.0)
    assert not takes(one, where, None)
    assert takes(one, where, 0.01)
    assert where.ahead


def test_what_goes_ahead_is_bounded_by_what_runs_take_here():
    one, where = offer(seconds=0.1, m=0.03), slots()

    assert [takes(one, where, 0.09, number=n) for n in range(6)] == [True] * 4 + [False] * 2


def test_a_queue_that_the_worker_does_not_serve_is_for_others():
    one = offer(places=1, seconds=1.0)

    assert not takes(one, slots(), 0.01, queue="other")
    assert one.room("other") == 0
    assert one.room("default") > 1


def test_what_comes_back_waits_before_the_rest_in_its_order_p5():
    deck = Deck()
    deck.put(claimed(1, 2, 3, 4))
    given = [deck.waiting.popleft() for _ in range(2)]
    for number, one in enumerate(given, 1):
        one.number = number

    deck.put_back(given)

    assert [one.key[0] for one in deck.waiting] == [1, 2, 3, 4]
    assert {one.number for one in deck.waiting} == {0}


@pytest.mark.parametrize("answers", [[0, 1, 2], [2, 0, 1]])
def test_what_comes_back_one_by_one_waits_in_its_order_p5(answers):
    deck = Deck()
    deck.put(claimed(1, 2, 3, 4))
    given = [deck.waiting.popleft() for _ in range(3)]

    for number in answers:
        deck.put_back([given[number]])

    assert [one.key[0] for one in deck.waiting] == [1, 2, 3, 4]


def test_what_comes_back_waits_behind_what_was_promoted_before_it_p5():
    deck = Deck()
    deck.put(claimed(1, 2))
    deck.put(claimed(3))
    given = [deck.waiting.popleft() for _ in range(3)]

    deck.put_back(given[:1])
    deck.put_back(given[1:])

    assert [one.key[0] for one in deck.waiting] == [1, 2, 3]


def test_what_comes_back_has_lingered_nowhere():
    deck = Deck()
    deck.put(claimed(1))
    one = deck.waiting.popleft()
    one.lingers = True

    deck.put_back([one])

    assert not one.lingers


def test_only_what_no_child_was_given_is_dropped():
    deck = Deck()
    first, second = claimed(1, 2)
    deck.put([first, second])
    deck.waiting.remove(first)
    first.number = 1

    assert not deck.drop(first.key)
    assert deck.drop(second.key)
    assert not deck.drop(second.key)
    assert list(deck.all) == [first.key]


def test_what_is_to_be_given_back_is_known_until_it_is():
    deck = Deck()
    deck.put(claimed(1, 2))

    keys = deck.take_waiting()

    assert (keys, deck.take_waiting(), len(deck.all)) == ([(1, 1), (2, 1)], [], 2)
    deck.settle(keys)
    assert not deck.all


def test_what_others_are_giving_back_is_not_dropped_p4():
    deck = Deck()
    deck.put(claimed(1, 2))
    keys = deck.take_waiting()

    assert not deck.drop(keys[0])

    assert list(deck.all) == keys


def test_who_waits_for_less_work_goes_on_as_soon_as_half_is_done():
    deck = Deck()
    deck.put(claimed(1, 2))
    deck.note_answer(deck.all[1, 1])

    deck.wait_until_low(0)
    assert deck.seconds() == pytest.approx(0.001)


def test_the_length_of_runs_is_learned():
    deck = Deck()
    for _ in range(100):
        deck.learn("m", 0.5)
    deck.learn("m", 1.0)

    assert 0.5 < deck.each["m"] < 0.55


def test_what_others_have_by_now_does_not_come_back_p3():
    deck = Deck()
    first, second = claimed(1, 2)
    deck.put([first, second])
    given = [deck.waiting.popleft(), deck.waiting.popleft()]
    deck.settle([first.key])

    deck.put_back(given)

    assert list(deck.waiting) == [second]


@pytest.mark.parametrize(
    ("arguments", "size"),
    [("é" * 100, 200), ("x" * 100, 100), ("\U0001f600", 4), ("\ud800", 3), ({}, 2)],
)
def test_arguments_are_as_large_as_what_the_line_carries(arguments, size):
    assert size_of(SimpleNamespace(arguments=arguments)) == size
