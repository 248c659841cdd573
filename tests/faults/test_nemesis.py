"""The nemesis counts what it has broken, and not what it has tried."""

from __future__ import annotations

from itertools import pairwise

from tests.factories import make_type
from tests.faults.nemesis import FAULTS, Nemesis
from tests.faults.scene import Scene
from tests.faults.tiers import SEED
from tests.waiting import eventually


def only(*names):
    """Return the names of all other faults."""
    return tuple(FAULTS.keys() - set(names))


def test_what_hits_nothing_is_no_fault(workshop, broker, database_server):
    workshop.close()
    kinds = ("change_a_limit", "kill_beat", "copy_messages", "empty_the_broker")
    with (
        Scene(broker, database_server, machines=0, more=False) as scene,
        Nemesis(scene, SEED, without=only(*kinds)) as nemesis,
    ):
        while nemesis.struck < 3:
            nemesis.strike()

    # No type has such a limit, there is no beat, and nothing was sent.
    assert nemesis.did == {"empty_the_broker": 3}
    assert nemesis.missed.keys() == set(kinds) - {"empty_the_broker"}


def test_a_limit_is_changed_each_time_to_another_one(workshop, broker, database_server):
    workshop.close()
    kind = make_type("tests.faults.bodies.few", concurrency_limit=3)
    with (
        Scene(broker, database_server, machines=0, more=False) as scene,
        Nemesis(scene, SEED, without=only("change_a_limit")) as nemesis,
    ):
        seen = [3]
        while nemesis.struck < 6:
            nemesis.strike()
            kind.refresh_from_db()
            seen.append(kind.concurrency_limit)

    changes = sum(before != now for before, now in pairwise(seen))
    assert changes == nemesis.struck == 6


def test_a_fault_on_a_line_counts_when_it_is_felt_there(workshop, broker, database_server):
    workshop.close()
    kind = "cut_an_answer_of_the_broker"
    with Scene(broker, database_server, machines=1, more=False) as scene:
        line = scene.machines[0].to_broker
        with Nemesis(scene, SEED, without=only(kind)) as nemesis:
            before = line.harmed
            nemesis.strike()
            assert nemesis.struck == 0

            def counted():
                nemesis.look_after()
                return nemesis.struck

            eventually(counted, why=nemesis.told)
        assert line.harmed > before
