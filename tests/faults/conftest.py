"""Fixtures of the laboratory: PostgreSQL only, and a clock for the figures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults import figures, shares

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


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Pass over what the run beside this one has taken."""
    ours = HERE not in item.path.parents or shares.is_ours(item.path)
    return None if ours else True


@pytest.fixture(autouse=True)
def _clock() -> None:
    figures.begin()
