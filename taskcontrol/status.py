"""The statuses of a task, their groups, and the table of allowed moves."""

from __future__ import annotations

from django.db.models import TextChoices


class Status(TextChoices):
    """Where a task stands; stored exactly so."""

    PENDING = "Pending"
    PAUSED = "Paused"
    QUEUED = "Queued"
    STARTED = "Started"
    FINISHED = "Finished"
    FAILED = "Failed"
    CANCELED = "Canceled"


#: A task in one of these has an ``ended_at``. Failed is ended only while no retry is due.
TERMINAL = frozenset({Status.FINISHED, Status.FAILED, Status.CANCELED})

#: Not begun: may be paused, moved to the front, replaced.
WAITING = frozenset({Status.PENDING, Status.PAUSED, Status.QUEUED})

#: Sent to a worker or running there.
ACTIVE = frozenset({Status.QUEUED, Status.STARTED})

MOVES: dict[Status, dict[Status, str]] = {
    Status.PENDING: {
        Status.QUEUED: "the dispatcher found a free slot and no limit or pause in the way",
        Status.PAUSED: "a person or code holds it back",
        Status.CANCELED: "a person stopped it, or it expired, before it was sent",
    },
    Status.PAUSED: {
        Status.PENDING: "a person or code let it go on",
        Status.CANCELED: "a person stopped it while it was held back",
    },
    Status.QUEUED: {
        Status.STARTED: "a worker won the claim for this attempt; the body begins",
        Status.FINISHED: "the body began and returned before its worker, which had claimed the "
        "attempt as it was sent, wrote down either",
        Status.PENDING: "the broker lost its message or did not take it, its batch is held back, "
        "or its worker gave back what it had claimed",
        Status.CANCELED: "a person stopped it, or it expired, before its body began; one that a worker "
        "claimed as it was sent, and begins at that moment, is told to go",
    },
    Status.STARTED: {
        Status.FINISHED: "the body returned",
        Status.FAILED: "the body raised, timed out, or its process was lost too often; "
        'with `on_lost="fail"` also lost once, or stopped with its worker',
        Status.CANCELED: "a person stopped it; the body is told to go, then made to go",
        Status.PENDING: "its worker was lost or left before the end; it runs again",
    },
    Status.FINISHED: {},
    Status.FAILED: {
        Status.PENDING: "a retry: automatic when retry_at came, or by hand",
        Status.CANCELED: "a person stopped the automatic retry that was due",
    },
    Status.CANCELED: {
        Status.PENDING: "a retry by hand",
    },
}


def sources_of(target: Status) -> frozenset[Status]:
    """Return the statuses from which a task may move to ``target``."""
    return frozenset(source for source, moves in MOVES.items() if target in moves)
