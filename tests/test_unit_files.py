"""The examples of unit files start what they say, with options that exist."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser
from pathlib import Path

import pytest

from taskcontrol.verbs import all_verbs

pytestmark = pytest.mark.only_on("sqlite")

UNITS = Path(__file__).parent.parent / "docs" / "systemd"


def command_of(unit: str) -> list[str]:
    text = (UNITS / unit).read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    return shlex.split(line.removeprefix("ExecStart="))


def options_of(unit: str) -> dict[str, object]:
    _python, manage, verb_of, verb, *words = command_of(unit)
    assert (manage, verb_of) == ("manage.py", "taskcontrol")
    parser = ArgumentParser(exit_on_error=False)
    all_verbs()[verb].add_arguments(parser)
    return vars(parser.parse_args(words))


def test_a_worker_takes_every_queue_of_the_settings():
    options = options_of("taskcontrol-worker@.service")

    assert (options["queue"], options["num_workers"]) == (None, 4)
    assert options["name"] == "worker%i"


def test_a_queue_gets_the_processes_that_the_settings_give_it():
    options = options_of("taskcontrol-queue@.service")

    assert (options["queue"], options["num_workers"]) == ("%i", None)


def test_the_page_says_how_to_start_each():
    page = (UNITS / "README.md").read_text(encoding="utf-8")

    for unit in UNITS.glob("*.service"):
        assert unit.name.removesuffix(".service") in page
