"""Walks through everything that can keep tasks from running."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from django.db import Error as DatabaseError

from ..exceptions import TaskControlError
from ..wording import one_line
from . import foundations, punctuality, symptoms, typekeys
from .findings import Finding, Level


def examine() -> list[Finding]:
    """Return what was found, in the order in which one would look for a stuck task.

    Changes nothing, and takes a few seconds at most when something does not answer.
    """
    database = _safely("Database", foundations.examine_database)
    findings = [
        *_safely("Settings", foundations.examine_settings),
        *database,
        *_safely("Broker", foundations.examine_broker),
        *_safely("Bell", foundations.examine_bell),
    ]
    if worst(database) is not Level.FAIL:
        findings += _safely("Tasks", symptoms.examine_tasks)
        findings += _safely("Types", typekeys.examine_types)
        findings += _safely("Schedules", punctuality.examine_schedules)
        findings += _safely("Referee", foundations.examine_referee)
    return findings


def worst(findings: list[Finding]) -> Level:
    """Return the worst level among the findings."""
    return max((one.level for one in findings), key=list(Level).index, default=Level.OK)


def _safely(subject: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Return what ``look`` yields; what breaks it is a finding too, and stops no other."""
    findings: list[Finding] = []
    try:
        findings.extend(look())
    except (DatabaseError, TaskControlError) as error:
        text = f"{type(error).__name__}: {one_line(error)}"
        findings.append(Finding(Level.FAIL, subject, text))
    return findings
