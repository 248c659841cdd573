"""Fixtures of the scenarios."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import taskcontrol
from tests import tasks
from tests.integration.watching import free
from tests.recording import Record
from tests.servers.worker import Worker
from tests.waiting import eventually


@pytest.fixture
def one_slot(worker: Worker, record: Record) -> Iterator[Worker]:
    """The shared worker with one slot left, so that one child runs everything."""
    holder = taskcontrol.enqueue(tasks.sleep, seconds=600)
    eventually(lambda: record.lines("started", task=holder.pk), 20)
    record.clear()
    yield worker
    taskcontrol.cancel(holder)
    free(holder)
