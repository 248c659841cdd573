"""P9: the numbers of batches equal their rows, and each callback is inserted once."""

from __future__ import annotations

from collections import Counter

import pytest
from django.db import InterfaceError, OperationalError, connections

import taskcontrol
from taskcontrol import batches
from taskcontrol.models import TaskBatch, TaskLog
from taskcontrol.pruning import prune_ended_tasks
from taskcontrol.status import Status
from tests.factories import make_type
from tests.faults import bodies
from tests.faults.figures import figure
from tests.faults.nemesis import Nemesis
from tests.faults.scene import Scene, patiently
from tests.faults.striking import strike_while
from tests.faults.tiers import SEED, TIER, sized
from tests.waiting import eventually

pytestmark = pytest.mark.integration

BATCHES, MEMBERS, FAULTS = sized(10, 100), sized(20, 100), sized(10, 100)
PACE = (0.7, 1.5, 1.5)[TIER]
#: Every so many batches one has a member that fails.
ONE_FAILS_OF = 3
#: Of so many members one fails first and is retried.
ONE_RETRIED_OF = 5


class Made:
    """The batches of a scenario, and for how many nobody knows whether they are whole."""

    def __init__(self) -> None:
        self.calls = self.pruned = 0
        self.unknown: list[str] = []

    def make(self) -> None:
        """Make one with callbacks, then its members in one call."""
        batch_id, bad = f"b{self.calls}", self.calls % ONE_FAILS_OF == 0
        self.calls += 1
        back = {"method": bodies.batch_over}
        try:
            taskcontrol.create_batch(
                batch_id, on_success=back, on_failure=back, on_completion=back
            )
            taskcontrol.bulk_enqueue(
                [
                    {
                        "tag": f"{batch_id}-{n}",
                        "bad": bad and n == 0,
                        "again": n % ONE_RETRIED_OF == 1,
                        "max_retries": int(n % ONE_RETRIED_OF == 1),
                        "retry_delay": 1,
                    }
                    for n in range(MEMBERS)
                ],
                batch_id,
                method=bodies.member,
            )
        except (OperationalError, InterfaceError):
            connections["default"].close()
            self.unknown.append(batch_id)
        self.prune()

    def prune(self) -> None:
        """Delete the members that have finished, of batches that have ended or not."""
        try:
            self.pruned += prune_ended_tasks()
        except (OperationalError, InterfaceError):
            connections["default"].close()


def test_the_numbers_of_batches_equal_their_rows_whatever_breaks_p9(
    workshop, broker, database_server, record
):
    workshop.close()  # the worker that others share would take some of the tasks
    made = Made()
    make_type("tests.faults.bodies.member", retention_days={"Finished": 0})
    with Scene(broker, database_server) as scene:
        with Nemesis(scene, SEED, without=("change_a_limit",)) as nemesis:
            strike_while(nemesis, faults=FAULTS, pace=PACE, calls=BATCHES, call=made.make)
        whole = [f"b{n}" for n in range(BATCHES) if has_members(f"b{n}")]
        rows = TaskBatch.objects.filter(pk__in=whole, ended_at=None)
        eventually(lambda: not patiently(rows.exists), 60, every=0.2, why=nemesis.told)
        left = TaskLog.objects.unended()
        eventually(lambda: not patiently(left.exists), 60, every=0.2, why=nemesis.told)

    assert made.pruned, "nothing was pruned while it was broken"
    retried = {line["tag"] for line in record.lines("retried")}
    again = {f"{b}-{n}" for b in whole for n in range(1, MEMBERS, ONE_RETRIED_OF)}
    assert retried >= again, f"{again - retried}\n{nemesis.told()}"
    assert set(whole) | set(made.unknown) == {f"b{n}" for n in range(BATCHES)}
    for batch_id in whole:
        assert_whole(batch_id, nemesis)
    inserted = Counter(
        TaskLog.objects.filter(method=back()).values_list("event", flat=True)
    )
    # One for the outcome and one for the end, of each.
    assert inserted == dict.fromkeys(whole, 2), nemesis.told()
    ran = Counter(line["batch"] for line in record.lines("over"))
    assert all(ran[batch_id] >= 2 for batch_id in whole), ran
    figure(
        "batches",
        batches=len(whole),
        tasks=len(whole) * MEMBERS,
        faults=nemesis.struck,
        retried=len(retried),
        pruned=made.pruned,
        mismatches=0,
        callbacks=inserted.total(),
        callbacks_twice=0,
    )


def has_members(batch_id):
    """Return whether the members are there: all or none, since they come in one transaction."""
    count = patiently(lambda: sum(batches.counts(batch_id).values()))
    assert count in (0, MEMBERS), f"{batch_id}: {count} of {MEMBERS}"
    return bool(count)


def assert_whole(batch_id, nemesis):
    """The numbers that are told are those of the rows, and of what was asked for."""
    members = TaskLog.objects.filter(batch_id=batch_id)
    failed = int(int(batch_id[1:]) % ONE_FAILS_OF == 0)
    told = batches.progress(batch_id)
    want = {"done": MEMBERS, "failed": failed, "canceled": 0, "total": MEMBERS}
    assert told == want, f"{batch_id}: {told}\n{nemesis.told()}"
    assert members.filter(status=Status.FAILED).count() == failed
    # What is no longer there is remembered, each once.
    pruned = TaskBatch.objects.get(pk=batch_id).pruned
    there = members.filter(status=Status.FINISHED).count()
    assert pruned.keys() <= {Status.FINISHED}
    assert there + pruned.get(Status.FINISHED, 0) == MEMBERS - failed, pruned


def back():
    """Return the path of the callback."""
    return "tests.faults.bodies.batch_over"
