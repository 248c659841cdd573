"""The examples of ``docs/live.md`` run in a real browser as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

import taskcontrol
from tests import tasks

# What the database is makes no difference to a browser.
pytestmark = [pytest.mark.integration, pytest.mark.only_on("sqlite")]

PAGE = (Path(__file__).parents[2] / "docs" / "live.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"^```js\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
#: What the examples are given by the page around them.
GIVEN = """async ({ name, coordinator_name, batch_id }) => {
    const onBatchEvent = (event) => heard.push(event);
    %s
}"""


def test_every_example_runs(workshop, somebody, visit):
    assert len(SCRIPTS) == 4
    one, coordinator = (
        taskcontrol.enqueue(tasks.nothing, paused=True, created_by=somebody.user)
        for _ in range(2)
    )
    page = visit(somebody, "/seeds/")
    names = {"name": one.name, "coordinator_name": coordinator.name, "batch_id": "later"}
    for script in SCRIPTS:
        page.evaluate(GIVEN % script, names)
    expect(page.locator(".taskcontrol-bar-title")).to_have_text(
        ["Importing data", "Creating records", "Creating records"]
    )
    expect(page.locator(".taskcontrol-bar-text")).to_have_text(
        ["Paused", "Starting…", "Paused"]
    )
