"""Who holds which deduplication key: at most one task that has not ended, on any database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from django.db import connections
from django.db.models import Q

from . import lockwaits
from .conf import conf
from .exceptions import KeyBusy, KeyTaken
from .models import TaskKey, TaskLog, may_run
from .status import TERMINAL, Status

#: The slots of each kind of key. A job's key has a second one, for the task that waits
#: until the running one has ended; locking the first locks them all.
SLOTS: Mapping[str, tuple[int, ...]] = {"job": (0, 1), "document": (2,)}
#: Keys that one statement asks for.
PAGE = 1000


class Key(NamedTuple):
    """A name that only one task may have at a time, and what kind of name it is."""

    text: str
    kind: str = "job"

    @property
    def slots(self) -> tuple[int, ...]:
        """The places in which tasks hold it."""
        return SLOTS[self.kind]


class Hold(NamedTuple):
    """A key, and the slot of it that a task holds."""

    key: Key
    slot: int


#: The tasks that hold a key, by slot.
Holders = dict[int, TaskLog]


def holders(keys: Collection[Key]) -> dict[Key, Holders]:
    """Return who holds each of ``keys`` now: the tasks that have not ended, by slot.

    A key counts only while its task has not ended, so the end of a task writes nothing
    here; nor while it can never start, since it has expired. Whoever acts upon a key that
    is free must have asked ``lock``.
    """
    unended = Q(task__status__in=sorted(set(Status) - TERMINAL))
    held = TaskKey.objects.filter(
        unended | Q(task__retry_at__isnull=False),
        may_run("task__"),
    )
    found: dict[Key, Holders] = {key: {} for key in keys}
    kind_of = {slot: kind for kind, slots in SLOTS.items() for slot in slots}
    texts = sorted({key.text for key in keys})
    for start in range(0, len(texts), PAGE):
        page = held.filter(key__in=texts[start : start + PAGE])
        for row in page.select_related("task"):
            key = Key(row.key, kind_of[row.slot])
            if key in found:
                found[key][row.slot] = row.task
    return found


def lock(keys: Collection[Key]) -> dict[Key, Holders]:
    """Return who holds each of ``keys``, which nobody else can take before the commit.

    Writes a row where there is none, so it waits for the transaction that is taking the
    same key, and all in one order; raises KeyBusy when that takes longer than ``KEY_WAIT``.
    """
    first = sorted({(key.slots[0], key.text) for key in keys})
    rows = [TaskKey(key=text, slot=slot) for slot, text in first]
    try:
        with lockwaits.at_most(conf.KEY_WAIT, conf.DATABASE):
            _write(rows, "slot")
    except lockwaits.LockWaitOver as over:
        raise KeyBusy([text for _, text in first], conf.KEY_WAIT) from over
    return holders(keys)


def give(holds: Iterable[tuple[Hold, int]]) -> None:
    """Let the tasks of these ids have these holds; the keys must be locked."""
    rows = [TaskKey(key=key.text, slot=slot, task_id=id_) for (key, slot), id_ in holds]
    _write(rows, "task")


def free_slot(key: Key, held: Holders) -> Hold:
    """Return the first free place of a key that has one."""
    return Hold(key, next(slot for slot in key.slots if slot not in held))


def keys_of(options: Mapping[str, list[list[str]]]) -> list[Key]:
    """Return the keys under which a task was enqueued, from its column ``options``."""
    return [Key(*one) for one in options.get("keys", ())]


def as_options(keys: Iterable[Key]) -> dict[str, list[list[str]]]:
    """Return what the column ``options`` of a task keeps of its keys."""
    kept = [list(key) for key in keys]
    return {"keys": kept} if kept else {}


def regain(task_id: int) -> None:
    """Take the keys of an ended task again; call it in the transaction that revives it.

    Raises KeyTaken when another task, which has not ended, has got one of them meanwhile.
    """
    rows = TaskLog.objects.filter(pk=task_id)
    own = keys_of(rows.values_list("options", flat=True).first() or {})
    holds = []
    for key, held in lock(own).items() if own else ():
        others = [task for task in held.values() if task.pk != task_id]
        if others:
            raise KeyTaken(task_id, key.text, others[0].pk, others[0].status)
        if not held:
            holds.append((free_slot(key, held), task_id))
    if holds:
        give(holds)


def _write(rows: list[TaskKey], column: str) -> None:
    """Insert ``rows``, or write ``column`` to those that exist: either way they are ours.

    In the order in which they are given.
    """
    features = connections[conf.DATABASE].features
    target = features.supports_update_conflicts_with_target
    TaskKey.objects.bulk_create(
        rows,
        update_conflicts=True,
        update_fields=[column],
        unique_fields=["key", "slot"] if target else None,
    )
