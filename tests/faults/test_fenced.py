"""A body that writes within fenced() writes once, however often it runs and whatever breaks."""

from __future__ import annotations

import pytest

from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests.faults import bodies
from tests.faults.figures import figure
from tests.faults.ledger import Ledger
from tests.faults.nemesis import Nemesis
from tests.faults.scene import Scene, patiently
from tests.faults.striking import strike_while
from tests.faults.tiers import SEED, TIER, sized
from tests.models import Counter

pytestmark = pytest.mark.integration

TASKS, FAULTS = sized(100, 1000), sized(20, 200)
PACE = (0.5, 1.5, 1.5)[TIER]
#: Faults that make no body run a second time, and so show nothing here.
WITHOUT = ("change_a_limit", "suspend_the_dispatcher", "kill_beat", "forge_messages")


def test_a_fenced_counter_equals_what_has_finished_whatever_breaks(
    workshop, broker, database_server, record
):
    workshop.close()  # the worker that others share would take some of the tasks
    fenced, unfenced = (Counter.objects.create(name=name) for name in ("in", "beside"))
    ledger = Ledger(record)

    def call() -> None:
        ledger.enqueue(bodies.count, fenced="in", unfenced="beside", max_retries=50)

    # Few slots, so that nearly every one is busy when something hits it.
    with Scene(broker, database_server, concurrency=2) as scene:
        with Nemesis(scene, SEED, without=WITHOUT) as nemesis:
            strike_while(nemesis, faults=FAULTS, pace=PACE, calls=TASKS, call=call)
        quiet_after = ledger.quiet(nemesis)

    finished = patiently(TaskLog.objects.filter(status=Status.FINISHED).count)
    told = ledger.summary()
    story = f"{told}\n{nemesis.told()}\n" + "\n".join(ledger.wrong()[:20])
    for counter in (fenced, unfenced):
        counter.refresh_from_db()
    assert fenced.value == finished, f"{fenced.value} {story}"
    assert (told["lost"], told["duplicated"], told["unexpected"]) == (0, 0, 0), story
    # Otherwise no body was broken off and begun again: the fence had nothing to do.
    assert unfenced.value > finished, f"{unfenced.value} {story}"
    figure(
        "fenced",
        **told,
        faults=nemesis.struck,
        finished=finished,
        counter=fenced.value,
        unfenced=unfenced.value,
        quiet_after=quiet_after,
    )
