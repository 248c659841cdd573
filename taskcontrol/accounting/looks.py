"""Looks twice at rows, broker and workers: what stood both times should not be."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import dialect
from ..conf import conf, known_queues
from ..dialect import DatabaseNow
from ..exceptions import BrokerUnavailable
from ..models import TaskAttempt, TaskLog, Worker, seconds
from ..suspension import dispatcher_state
from . import messages
from .evidence import Facts, Finding, Key
from .matching import match

#: Rows that one look reads; so many hold a place only where something is very wrong.
MOST_ROWS = 20_000
#: Columns of a row that the rules ask for.
ASKED = (
    *("status", "attempt", "occupies", "worker", "queue", "queued_at"),
    *("started_at", "ended_at", "cancel_requested_at", "error_message"),
    *("created_at", "timeout"),
)


@dataclass(frozen=True)
class Look:
    """What was seen at one moment."""

    facts: Facts
    findings: list[Finding]
    #: Whether the broker could be asked.
    broker_answered: bool = True


@dataclass(frozen=True)
class Account:
    """What stood at two moments: what moves while one looks is no incident."""

    standing: list[Finding]
    last: Look


def look() -> Look:
    """Read what rows, broker and workers say now, and match it."""
    at = dialect.now(conf.DATABASE)
    rows = _occupying()
    reading, answered = _messages({row.queue for row in rows.values()})
    workers = _live_workers()
    named = {(int(task), int(n)) for worker in workers.values() for task, n in worker.held}
    asked = {one.key for one in reading.messages if one.key is not None}
    rows |= _others({task for task, _ in named | asked} - rows.keys())
    stopping = {(row.pk, row.attempt) for row in rows.values() if row.occupies}
    site = dispatcher_state().site
    runs = _runs(named | stopping)
    facts = Facts(at, site, rows, runs, workers, reading.messages, reading.unread)
    return Look(facts, match(facts)[: conf.SWEEP_PAGE], answered)


def account(pause: Callable[[float], Any] = time.sleep) -> Account:
    """Look, and look again when something seems amiss; ``pause`` waits between the two."""
    first = look()
    if not first.findings:
        return Account([], first)
    pause(between_looks())
    return confirmed(first, look())


def between_looks() -> float:
    """Return the seconds after which every worker has given its word again."""
    return conf.HEARTBEAT_INTERVAL + 1.0


def confirmed(first: Look, second: Look) -> Account:
    """Return what stood both times, the second time on a newer word of its worker."""
    before = set(first.findings)
    standing = [
        one
        for one in second.findings
        if one in before and (one.word_of is None or one.word_of > first.facts.at)
    ]
    return Account(standing, second)


def _occupying() -> dict[int, TaskLog]:
    rows = TaskLog.objects.occupying().only(*ASKED).order_by("pk")[:MOST_ROWS]
    return {row.pk: row for row in rows}


def _others(ids: set[int]) -> dict[int, TaskLog]:
    """Return what messages and workers name and what holds no place; their number is bounded."""
    found: dict[int, TaskLog] = {}
    wanted = sorted(ids)
    for start in range(0, len(wanted), conf.SWEEP_PAGE):
        page = wanted[start : start + conf.SWEEP_PAGE]
        found |= TaskLog.objects.only(*ASKED).in_bulk(page)
    return found


def _live_workers() -> dict[int, Worker]:
    since = DatabaseNow() - seconds(conf.WORKER_LOST_AFTER)
    rows = Worker.objects.filter(left_at=None, lost_at=None, last_seen_at__gt=since)
    return {row.pk: row for row in rows.only("hostname", "held", "last_seen_at")}


def _runs(keys: set[Key]) -> dict[Key, TaskAttempt]:
    found: dict[Key, TaskAttempt] = {}
    wanted = sorted(keys)
    for start in range(0, len(wanted), conf.SWEEP_PAGE):
        page = {task for task, _ in wanted[start : start + conf.SWEEP_PAGE]}
        for run in TaskAttempt.objects.filter(task__in=page).defer("debug_log"):
            found[run.task_id, run.attempt] = run
    return found


def _messages(queues: set[str]) -> tuple[messages.Reading, bool]:
    """Return what waits in the broker, and whether it could be asked."""
    try:
        return messages.read({*known_queues(), *queues}), True
    except BrokerUnavailable as error:
        return messages.Reading([], str(error)), False
