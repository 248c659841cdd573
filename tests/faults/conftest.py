"""Fixtures of the laboratory: PostgreSQL only, and a clock for the figures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults import figures

HERE = Path(__file__).parent

# ``python -m tests.faults`` runs them, with the machine to itself.
collect_ignore_glob = [] if os.environ.get("TASKCONTROL_TIER") else ["test_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "every_seed: a scenario whose figure is one of many seeds"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.only_on("postgresql"))


@pytest.fixture(autouse=True)
def _clock() -> None:
    figures.begin()
