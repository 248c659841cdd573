"""At each named point between two steps a process dies, hangs or fails: what stands in the end.

All cases share one site. First the processes that need no worker die, one after the other, each
forked from a warm one; then workers die at their own points; then one healthy worker finds what
they left, and those that only hung are woken. Each test looks at what became of one case.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.test import override_settings

from taskcontrol import crashpoints
from taskcontrol.models import TaskLog, Worker
from tests.cleaning import empty_tables
from tests.faults import victims
from tests.faults.aftermath import CONF, SLEEP, Aftermath
from tests.faults.crashcases import CASES, FLAGS
from tests.faults.figures import figure
from tests.lab import RECORD
from tests.recording import Record
from tests.servers.environment import site_environment
from tests.servers.redis import Redis
from tests.workshop import Workshop

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def aftermath(
    request: pytest.FixtureRequest,
    _workshop: Workshop,
    django_db_blocker: Any,
    broker_server: Redis,
) -> Iterator[Aftermath]:
    """All cases that this run is to look at, over."""
    names = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = {one.params["case"] for one in names if one and "case" in one.params}
    with (
        django_db_blocker.unblock(),
        override_settings(TASKCONTROL={**settings.TASKCONTROL, **CONF}),
        pytest.MonkeyPatch.context() as patch,
    ):
        _workshop.close()
        empty_tables()
        broker_server.start()
        broker_server.flush()
        Record(RECORD).clear()
        FLAGS.mkdir(exist_ok=True)
        for old in FLAGS.iterdir():
            old.unlink()
        for name, value in site_environment().items():
            patch.setenv(name, value)
        patch.setenv("TASKCONTROL_TEST_CONF", json.dumps({**CONF, **SLEEP}))
        after = Aftermath([case for case in CASES if case in chosen], broker_server)
        with victims.nursery() as context:
            after.run(context)
        yield after
        Worker.objects.all().delete()
        empty_tables()
        connections.close_all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_crash_at_a_point_leaves_what_is_promised_p1_p3(case, aftermath):
    aftermath.look_at(case)


def test_nobody_else_was_touched_and_no_place_is_held_p4(aftermath):
    assert aftermath.look_at_bystanders() == aftermath.bystanders
    assert not TaskLog.objects.filter(occupies=True).exclude(queue="nobody").exists()


def test_every_point_was_reached_by_some_case(aftermath):
    if len(aftermath.cases) < len(CASES):
        pytest.skip("not all cases were run")

    reached = {case.point for case in CASES if case.flag.read_text()}
    assert reached == crashpoints.POINTS.keys()
    assert aftermath.good == set(CASES), "the other tests say which failed, and why"
    kinds = Counter(case.kind for case in CASES)
    figure(
        "crash points",
        points=len(crashpoints.POINTS),
        cases=len(CASES),
        **kinds,
        seconds=round(aftermath.seconds),
        lost=0,
        bodies_twice=0,
        others_touched=0,
    )
