"""Looks at the rows that hold a place: somebody must have the message, or the body."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from ..conf import conf
from ..held import MOST_NAMED
from ..incidents import Kind
from ..models import TaskLog, Worker, seconds
from ..occupancy import AT_ONCE_GRACE
from ..status import Status
from ..wording import moment
from .evidence import Facts, Finding, Repair

#: Seconds within which a child that claims is named by its worker.
CLAIM_TAKES = 3.0


def of_places(facts: Facts) -> Iterator[Finding]:
    """Yield the rows that hold a place for nobody, each once."""
    for row in facts.rows.values():
        if row.status == Status.QUEUED:
            yield from _queued(facts, row)
        elif row.occupies and row.worker_id is not None:
            yield from _held(facts, row, row.worker_id)
        elif row.occupies and _is_abandoned(facts, row):
            yield _left_behind(row)


def _queued(facts: Facts, row: TaskLog) -> Iterator[Finding]:
    # Not since it was sent: one that is lost again when it is sent again stays lost.
    patience = conf.RESEND_AFTER + 2 * conf.HEARTBEAT_INTERVAL
    if row.queued_at is None or facts.at - row.queued_at < seconds(patience):
        return
    if row.worker_id is not None:
        yield from _claimed(facts, row, row.worker_id, row.queued_at)
        return
    key = (row.pk, row.attempt)
    if facts.unread or key in facts.asked_for or key in facts.holders:
        return
    yield Finding(
        Kind.LOST,
        *key,
        text=f"Task {row.pk} is Queued as attempt {row.attempt} since {moment(row.queued_at)}, "
        "and neither the broker nor a worker has its message.",
        mended_by="it is sent again when a worker of its queue has a free slot",
        repair=Repair.UNSEND,
    )


def _claimed(facts: Facts, row: TaskLog, worker_id: int, at: datetime) -> Iterator[Finding]:
    """Of what a worker promoted for its own children no message was ever sent."""
    worker, key = facts.workers.get(worker_id), (row.pk, row.attempt)
    finding = Finding(Kind.LOST, *key, worker=worker_id)
    since = f"is Queued and claimed since {moment(at)}"
    if worker is None:
        yield replace(
            finding,
            text=f"Task {row.pk}, attempt {row.attempt}, {since}, but its worker is gone.",
            mended_by="it waits again",
            repair=Repair.RESCUE,
        )
    elif list(key) not in worker.held and len(worker.held) < MOST_NAMED:
        # Whether it has begun is for its worker alone to say: nothing is done by hand.
        yield replace(
            finding,
            text=f"Task {row.pk}, attempt {row.attempt}, {since} by {worker.hostname}, which "
            "does not hold it.",
            mended_by="its worker notices it within seconds, and lets it wait again",
            word_of=worker.last_seen_at,
        )


def _held(facts: Facts, row: TaskLog, worker_id: int) -> Iterator[Finding]:
    worker = facts.workers.get(worker_id)
    started = row.status == Status.STARTED
    body = f"Task {row.pk}, attempt {row.attempt}"
    finding = Finding(
        Kind.LOST if started else Kind.ZOMBIE, row.pk, row.attempt, worker=worker_id
    )
    if worker is None:
        yield replace(
            finding,
            text=f"{body}, {_is(row)}, but its worker is gone.",
            mended_by="it is rescued" if started else "its place is freed",
            repair=Repair.RESCUE,
        )
    elif not _names(worker, row):
        yield replace(
            finding,
            text=f"{body}, {_is(row)} in {worker.hostname}, which holds no such body.",
            mended_by="its worker notices it within seconds; while somebody's open transaction "
            "holds the row, as soon as that has ended",
            repair=Repair.RESCUE,
            word_of=worker.last_seen_at,
        )
    elif not started and _is_late(facts, row):
        yield replace(
            finding,
            text=f"{body}, is {row.status}, but its body still runs in {worker.hostname}, "
            "although it was told to stop.",
            mended_by="its worker kills the process; on threads and solo pools the body must "
            "ask check_canceled()",
            repair=Repair.STOP,
            word_of=worker.last_seen_at,
        )


def _is_abandoned(facts: Facts, row: TaskLog) -> bool:
    """Return whether what ran at once (``now=True``) is long over its time, for a sweep too."""
    run = facts.runs.get((row.pk, row.attempt))
    since = row.started_at or (run and run.started_at) or row.created_at
    patience = row.timeout + AT_ONCE_GRACE + 2 * conf.HEARTBEAT_INTERVAL
    return facts.at - since > seconds(patience)


def _left_behind(row: TaskLog) -> Finding:
    started = row.status == Status.STARTED
    return Finding(
        Kind.LOST if started else Kind.ZOMBIE,
        row.pk,
        row.attempt,
        text=f"Task {row.pk}, attempt {row.attempt}, {_is(row)}, but the process that ran it at "
        "once (now=True) must be gone.",
        mended_by="it fails" if started else "its place is freed",
        repair=Repair.RESCUE,
    )


def _is(row: TaskLog) -> str:
    if row.status == Status.STARTED:
        return "is Started"
    return f"is {row.status} and holds a place"


def _names(worker: Worker, row: TaskLog) -> bool:
    """Return whether the worker holds the attempt, as far as its last word can tell."""
    if [row.pk, row.attempt] in worker.held or row.started_at is None:
        return True
    return bool(worker.last_seen_at - row.started_at < seconds(CLAIM_TAKES))


def _is_late(facts: Facts, row: TaskLog) -> bool:
    """Return whether the grace is over, and what its worker needs on top of it."""
    run = facts.runs.get((row.pk, row.attempt))
    since = row.cancel_requested_at or row.ended_at or (run.ended_at if run else None)
    patience = 2 * conf.CANCEL_GRACE + 2 * conf.HEARTBEAT_INTERVAL
    return since is not None and facts.at - since > seconds(patience)
