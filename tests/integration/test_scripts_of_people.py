"""Scripts with a real worker: run by name, as their callers, and ended by their timeouts."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.contrib.scripts.models import Script
from taskcontrol.models import TaskLog, TaskType
from taskcontrol.status import Status
from tests.factories import make_user
from tests.integration.watching import all_ended, ended

pytestmark = pytest.mark.integration

SOURCE = """
numbers = args["numbers"]
for number, value in enumerate(numbers, 1):
    progress(number, len(numbers), f"number {number}")
    log("added", value)
return {"sum": sum(numbers), "user": user, "child": enqueue("tests.tasks.whoami_open")}
"""


def test_a_script_runs_by_name_as_its_caller(worker):
    ann = make_user("ann")
    Script.objects.create(name="totals", source=SOURCE)

    now = ended(taskcontrol.enqueue_safe("totals", numbers=[1, 2], created_by=ann))

    assert now.status == Status.FINISHED, now.error_message
    assert (now.result["sum"], now.result["user"]) == (3, "ann")
    assert "added 1\nadded 2" in now.debug_log
    assert now.progress == {"count": 2, "total": 2, "description": "number 2"}
    assert ended(TaskLog.objects.get(pk=now.result["child"])).result == "ann"
    assert TaskType.objects.filter(method="script:totals").exists()


ENDLESS = [
    "while True:\n  pass",
    "while True:\n  try:\n    while True: pass\n  except Exception:\n    pass",
    "while True:\n  try:\n    pass\n  finally:\n    continue",
]


def test_a_script_that_never_ends_is_ended_by_its_timeout(worker):
    rows = []
    for number, source in enumerate(ENDLESS):
        Script.objects.create(name=f"endless {number}", source=source)
        rows.append(taskcontrol.enqueue_safe(f"endless {number}", timeout=1))

    for now in all_ended(rows, 60):
        assert (now.status, now.ended_reason) == (Status.FAILED, "timed out")
    Script.objects.create(name="quick", source="return 1")
    assert ended(taskcontrol.enqueue_safe("quick")).result == 1
