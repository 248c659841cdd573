"""Matches rows with messages and with what workers hold: what of it should not be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ..exceptions import OutOfMemory, WorkerLost
from ..incidents import Kind
from ..models import TaskAttempt, TaskLog, Worker
from ..status import ACTIVE, Status
from ..wording import counted, listed
from .evidence import Facts, Finding, Key, Repair
from .messages import Waiting
from .places import of_places


def match(facts: Facts) -> list[Finding]:
    """Return what does not fit together, each once."""
    found = [
        *of_places(facts),
        *_of_messages(facts),
        *_of_strangers(facts),
        *_of_holders(facts),
    ]
    return list(dict.fromkeys(found))


# Messages: each must be the only one of an attempt that waits for it, or what is left of one

_REFUSED = "a worker that takes it is refused the claim, and runs nothing"


def _of_messages(facts: Facts) -> Iterator[Finding]:
    for key, found in facts.asked_for.items():
        row = facts.rows.get(key[0])
        messages = [one for one in found if not _is_left_over(facts, row, key, one)]
        spare = tuple(one for one in messages if not one.taken)
        if row is not None and row.status == Status.QUEUED and row.attempt == key[1]:
            if len(messages) > 1:
                yield Finding(
                    Kind.DOUBLE,
                    *key,
                    text=f"{len(messages)} messages for attempt {key[1]} of task {key[0]}.",
                    mended_by="the first one that is taken runs; " + _REFUSED,
                    repair=Repair.REMOVE,
                    messages=spare if len(spare) < len(messages) else spare[1:],
                )
        elif spare or (messages and not _is_beginning(row, key)):
            # A worker may have taken it and be dead: then the broker gives it out again.
            yield Finding(
                Kind.GHOST,
                *key,
                text=f"A message for attempt {key[1]} of task {key[0]}, {_stands(row)}.",
                mended_by=_REFUSED,
                repair=Repair.REMOVE if spare else None,
                messages=spare,
            )


def _is_left_over(facts: Facts, row: TaskLog | None, key: Key, message: Waiting) -> bool:
    """Return whether a message is of an attempt that was sent, and is over or was taken back.

    A cancel, a pause or another attempt takes no message out of the broker: it is expected
    there until a worker takes it and drops it.
    """
    if row is None or not 0 < key[1] <= row.attempt:
        return False
    is_over = row.attempt > key[1] or row.status not in ACTIVE
    name = f"{facts.site}-{key[0]}-{key[1]}"
    return is_over and message.celery_task_id == name


def _is_beginning(row: TaskLog | None, key: Key) -> bool:
    """Return whether a worker that took a message may be about to acknowledge it."""
    return row is not None and row.attempt == key[1] and row.status == Status.STARTED


def _stands(row: TaskLog | None) -> str:
    if row is None:
        return "which does not exist"
    return f"which is {row.status} with attempt {row.attempt}"


def _of_strangers(facts: Facts) -> Iterator[Finding]:
    broken: dict[str, list[Waiting]] = defaultdict(list)
    foreign: dict[tuple[str, str], int] = defaultdict(int)
    for message in facts.messages:
        if message.key is None:
            broken[message.queue].append(message)
        elif site := facts.strange(message):
            foreign[message.queue, site] += 1
    for queue, messages in broken.items():
        number = counted(len(messages), "message")
        yield Finding(
            Kind.GHOST,
            key=f"unreadable {queue}"[:100],
            text=f"{number} in the queue {queue} cannot be read: {messages[0].trouble}",
            mended_by="a worker that takes it rejects it",
            repair=Repair.REMOVE,
            messages=tuple(messages),
        )
    for (queue, site), count in foreign.items():
        yield Finding(
            Kind.GHOST,
            key=f"{site} {queue}"[:100],
            text=f"{counted(count, 'message')} of another site ({site}) in the queue {queue}: "
            "two sites share this broker, and take each other's messages.",
            mended_by="each is sent again by its own site; give each site a broker of its own",
        )


# What workers hold: each attempt once, and only while its row is with it

_ENDED = (
    "its worker is told to kill the process, on pools that have some; what the body writes as "
    "its end is refused"
)


def _of_holders(facts: Facts) -> Iterator[Finding]:
    for key, workers in facts.holders.items():
        row = facts.rows.get(key[0])
        if len(workers) > 1:
            yield _two_hold(key, workers)
            continue
        why = _why_zombie(facts, key, row, workers[0])
        if not why:
            continue
        yield Finding(
            Kind.ZOMBIE,
            *key,
            text=f"{workers[0].hostname} runs attempt {key[1]} of task {key[0]}, {why}.",
            mended_by=_ENDED,
            repair=Repair.STOP,
            worker=workers[0].pk,
            word_of=workers[0].last_seen_at,
        )
        if row and row.attempt > key[1] and (row.pk, row.attempt) in facts.holders:
            yield _two_live(facts, key, row)


def _two_hold(key: Key, workers: list[Worker]) -> Finding:
    names = listed(sorted(worker.hostname for worker in workers))
    return Finding(
        Kind.DOUBLE,
        *key,
        key="holders",
        text=f"Attempt {key[1]} of task {key[0]} is held by {names}.",
        mended_by="only the one that won the claim can write its end",
        word_of=min(worker.last_seen_at for worker in workers),
    )


def _two_live(facts: Facts, key: Key, row: TaskLog) -> Finding:
    there = facts.holders[row.pk, row.attempt][0]
    return Finding(
        Kind.DOUBLE,
        *key,
        key="attempts",
        text=f"Two bodies of task {row.pk} run at once: attempt {key[1]}, and attempt "
        f"{row.attempt} in {there.hostname}.",
        mended_by=_ENDED,
        word_of=min(there.last_seen_at, facts.holders[key][0].last_seen_at),
    )


def _why_zombie(facts: Facts, key: Key, row: TaskLog | None, worker: Worker) -> str:
    """Say why nobody waits for this body any more; empty when somebody may."""
    if row is None:
        return "which does not exist any more"
    if row.attempt == key[1] and row.status in ACTIVE:
        elsewhere = row.status == Status.STARTED and row.worker_id != worker.pk
        return "which another worker has claimed" if elsewhere else ""
    if row.attempt == key[1] and row.occupies:
        return ""  # told to stop: see ``_held``
    # A body that has written its end may still be busy with what is called after it.
    run = facts.runs.get(key)
    if (run is None and row.attempt != key[1]) or not _was_given_up(run, row):
        return ""
    return f"which was given up: the task is {row.status} with attempt {row.attempt}"


def _was_given_up(run: TaskAttempt | None, row: TaskLog) -> bool:
    """Return whether an attempt was declared lost, or given back, instead of ending."""
    if run is not None:
        by_itself = run.status != Status.FAILED or run.error_message
        return bool(run.ended_reason) and not by_itself
    lost = (f"{WorkerLost.__name__}:", f"{OutOfMemory.__name__}:")
    return row.error_message.startswith(lost)
