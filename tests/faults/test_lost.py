"""P1, P3, P4 and P7 while everything breaks: nothing lost, nothing twice, nobody beyond a limit."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from taskcontrol.status import Status
from tests.factories import make_type
from tests.faults import bodies
from tests.faults.figures import figure
from tests.faults.ledger import Audit, Ledger
from tests.faults.nemesis import Nemesis
from tests.faults.scene import Scene, patiently
from tests.faults.striking import strike_while
from tests.faults.tiers import SEED, TIER, sized

pytestmark = [pytest.mark.integration, pytest.mark.every_seed]

TASKS, FAULTS = sized(1000, 2000, 10_000), sized(40, 300)
#: Seconds between two faults; a tier that asks for more tasks gives them more time.
PACE = (1.1, 1.5, 2.4)[TIER]
LIMITS = {"alone": 1, "few": 3}
#: What is enqueued, in a hundred tasks.
MIX: tuple[tuple[int, Callable[..., Any], dict[str, Any]], ...] = (
    (60, bodies.quick, {}),
    (10, bodies.slow, {}),
    (8, bodies.alone, {}),
    (12, bodies.few, {}),
    (7, bodies.fails_twice, {"max_retries": 2, "retry_delay": 1}),
    (3, bodies.fails_always, {"max_retries": 1, "retry_delay": 1}),
)
ENDS = {"tests.faults.bodies.fails_always": Status.FAILED}


def test_nothing_is_lost_and_nothing_runs_twice_whatever_breaks_p1_p3_p4_p7(
    workshop, broker, database_server, record
):
    workshop.close()  # the worker that others share would take some of the tasks
    for name, limit in LIMITS.items():
        make_type(f"tests.faults.bodies.{name}", concurrency_limit=limit)
    ledger, dice = Ledger(record, ends=ENDS), random.Random(SEED)
    weights = [weight for weight, *_ in MIX]

    def call() -> None:
        _, body, options = dice.choices(MIX, weights)[0]
        ledger.enqueue(body, **options)

    with Scene(broker, database_server) as scene:
        with Nemesis(scene, SEED) as nemesis:
            strike_while(nemesis, faults=FAULTS, pace=PACE, calls=TASKS, call=call)
        quiet_after = ledger.quiet(nemesis)

    told, audit = patiently(ledger.summary), Audit(record, nemesis.silences)
    story = f"{told}\n{nemesis.told()}\n" + "\n".join(ledger.wrong()[:20])
    assert (told["lost"], told["duplicated"], told["unexpected"]) == (0, 0, 0), story
    assert not audit.overlaps, f"{audit.overlaps}\n{story}"
    for name, limit in LIMITS.items():
        assert audit.peaks[name] <= limit, f"{name}: {audit.peaks}\n{story}"
    assert not nemesis.ended_themselves, story
    figure(
        "lost",
        **told,
        faults=nemesis.struck,
        kinds=len(nemesis.did),
        peaks={name: f"{audit.peaks[name]}/{limit}" for name, limit in LIMITS.items()},
        zombies=len(audit.zombies),
        quiet_after=quiet_after,
    )
