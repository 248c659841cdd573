"""One thread of a web process that reads for all its open pages, from the rows alone.

A poke says which tasks changed and only makes it quick. Once a second everything that is
watched is read anyway, so that a page shows the truth without Redis and after every loss.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import close_old_connections, connections
from django.db.models import Max

from ..models import TaskLog
from ..pokes import part_from
from ..status import TERMINAL
from .ear import listen
from .states import State, batches_by_id, newest_of, tasks_by_id
from .watching import Watch, frame, seen_of

logger = logging.getLogger("taskcontrol")

#: Seconds between two readings of everything that is watched.
READ_EVERY = 1.0
#: Seconds between two readings while pokes rain.
GAP = 0.02
#: Seconds for which news of batches are gathered: their members are counted each time.
GATHER = 0.1
#: Own tasks that have not ended of which a page hears from its start on, the newest, and
#: new ones that one reading takes.
MOST_OWN = 200


class Reader:
    """Reads what the watches of this process ask for, and leaves it in their mailboxes."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._watches: set[Watch] = set()
        self._new: list[Watch] = []
        self._changed: set[int] = set()
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None

    def join(self, watch: Watch) -> None:
        """Tell ``watch`` the present state of what it asks for, and then every change."""
        with self._lock:
            self._watches.add(watch)
            self._new.append(watch)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._serve, name="taskcontrol-live", daemon=True
                )
                self._thread.start()
        self._wanted.set()

    def leave(self, watch: Watch) -> None:
        """Tell ``watch`` nothing more."""
        with self._lock:
            self._watches.discard(watch)

    def streams_of(self, user_id: int | None) -> int:
        """Return how many streams of one person are open here."""
        with self._lock:
            return sum(watch.asked.user_id == user_id for watch in self._watches)

    def changed(self, task_ids: Iterable[int]) -> None:
        """Take a poke."""
        with self._lock:
            self._changed.update(task_ids)
        self._wanted.set()

    def part_from(self, user_id: int) -> None:
        """Close the streams of somebody who logged out somewhere."""
        with self._lock:
            theirs = [watch for watch in self._watches if watch.asked.user_id == user_id]
        for watch in theirs:
            watch.close()

    def _serve(self) -> None:
        stopped = threading.Event()
        threading.Thread(
            target=listen, args=(self, stopped), name="taskcontrol-ear", daemon=True
        ).start()
        reading = Reading()
        try:
            while not self._over():
                self._wanted.wait(reading.pause())
                self._wanted.clear()
                self._read(reading)
                time.sleep(GAP)
        finally:
            stopped.set()
            connections.close_all()

    def _over(self) -> bool:
        """Return whether nobody watches any more: this thread ends, a later one may begin."""
        with self._lock:
            if not self._watches:
                self._thread = None
                self._changed.clear()
            return not self._watches

    def _read(self, reading: Reading) -> None:
        with self._lock:
            watches = list(self._watches)
            new, self._new = [watch for watch in self._new if watch in self._watches], []
            changed, self._changed = self._changed, set()
        try:
            reading.read(watches, new, changed)
        except Exception as error:  # noqa: BLE001 - the next reading sees all of it again
            logger.debug("Live pages were not told: %s", error)
            connections.close_all()
            with self._lock:
                self._new[:0] = new
        else:
            close_old_connections()


@dataclass
class Reading:
    """What the readings of one thread remember of the ones before."""

    #: The mark of each thing when it was last told.
    known: dict[str, Any] = field(default_factory=dict)
    #: The newest task when own tasks were last looked for.
    newest: int | None = None
    #: Batches with news, and a member that brought them.
    moved: dict[str, State | None] = field(default_factory=dict)
    read_at: float = float("-inf")
    counted_at: float = float("-inf")

    def pause(self) -> float:
        """Return the seconds until the next reading is due."""
        due = self.read_at + READ_EVERY
        if self.moved:
            due = min(due, self.counted_at + GATHER)
        return max(0.0, due - time.monotonic())

    def read(self, watches: list[Watch], new: list[Watch], changed: set[int]) -> None:
        """Read what changed, or everything if that is due, and tell it."""
        whole = time.monotonic() >= self.read_at + READ_EVERY
        wanted = Wanted(watches)
        states = self._tasks(wanted, new, changed, whole=whole)
        fresh = {
            key: state for key, state in states.items() if self._is_news("task", state)
        }
        self._note_batches(wanted, fresh)
        if whole:
            self.moved = {**dict.fromkeys(wanted.batches), **self.moved}
            self._forget(wanted)
        batches = self._batches(wanted, new, whole=whole)
        for watch in new:
            _tell_all(watch, states, batches)
        _tell_tasks(wanted, fresh)
        self._tell_batches(wanted, batches)
        if whole:
            self.read_at = time.monotonic()

    def _tasks(
        self, wanted: Wanted, new: list[Watch], changed: set[int], *, whole: bool
    ) -> dict[int, State]:
        """Return the states of the tasks that may have changed, and of those just asked for."""
        anybodys = wanted.owners or wanted.batches
        ids = set(changed) if anybodys else changed & wanted.tasks
        if whole:
            ids |= wanted.tasks
        for watch in new:
            ids |= watch.asked.tasks
        states = tasks_by_id(ids) if ids else {}
        if wanted.owners and (whole or self.newest is None):
            states.update(self._new_own(wanted))
        for watch in new:
            if watch.asked.own:
                states.update(_open_own(watch))
        for key, state in states.items():
            for watch in wanted.owners.get(state.owner, ()):
                watch.follow(key, ended=state.told["ended"])
        return states

    def _new_own(self, wanted: Wanted) -> dict[int, State]:
        """Return what was enqueued since the last look by those who watch their own tasks."""
        rows = TaskLog.objects.all()
        before, self.newest = self.newest, rows.aggregate(newest=Max("pk"))["newest"] or 0
        if before is None or before == self.newest:
            return {}
        rows = rows.filter(created_by__in=list(wanted.owners), pk__gt=before)
        keys = rows.order_by("pk").values_list("pk", flat=True)[:MOST_OWN]
        return tasks_by_id(list(keys))

    def _is_news(self, kind: str, state: State) -> bool:
        key = f"{kind}:{state.key}"
        if self.known.get(key) == state.mark:
            return False
        self.known[key] = state.mark
        return True

    def _note_batches(self, wanted: Wanted, fresh: dict[int, State]) -> None:
        """Remember which batches moved, and by which member: the one that ended last."""
        for state in sorted(fresh.values(), key=lambda one: one.told["ended_at"] or ""):
            batch_id = state.told["batch_id"]
            if batch_id in wanted.batches:
                self.moved[batch_id] = state

    def _batches(
        self, wanted: Wanted, new: list[Watch], *, whole: bool
    ) -> dict[str, State]:
        """Return the states of the batches that moved, unless they were counted just now."""
        for watch in new:
            for batch_id in watch.asked.batches:
                self.moved.setdefault(batch_id, None)
        early = time.monotonic() < self.counted_at + GATHER
        if not self.moved or (early and not whole and not new):
            return {}
        self.counted_at = time.monotonic()
        return batches_by_id(self.moved.keys() & wanted.batches.keys())

    def _tell_batches(self, wanted: Wanted, batches: dict[str, State]) -> None:
        for batch_id, state in batches.items():
            member = self.moved.get(batch_id)
            if not self._is_news("batch", state) and member is None:
                continue
            told = frame("batch", state.with_news(member or newest_of(batch_id)).told)
            for watch in wanted.batches[batch_id]:
                if watch.asked.sees("batch", state):
                    watch.put(f"batch:{batch_id}", told)
        if batches:
            self.moved.clear()

    def _forget(self, wanted: Wanted) -> None:
        """Drop the marks of what nobody watches."""
        kept = {f"task:{key}" for key in wanted.tasks}
        kept |= {f"batch:{key}" for key in wanted.batches}
        self.known = {key: mark for key, mark in self.known.items() if key in kept}


class Wanted:
    """Who watches what, by its key."""

    def __init__(self, watches: list[Watch]) -> None:
        self.named: dict[int, list[Watch]] = defaultdict(list)
        #: The keys of those named and of the own ones that are followed.
        self.tasks: set[int] = set()
        self.batches: dict[str, list[Watch]] = defaultdict(list)
        self.owners: dict[int | None, list[Watch]] = defaultdict(list)
        for watch in watches:
            self.tasks |= watch.asked.tasks | watch.following
            for task_id in watch.asked.tasks:
                self.named[task_id].append(watch)
            for batch_id in watch.asked.batches:
                self.batches[batch_id].append(watch)
            if watch.asked.own:
                self.owners[watch.asked.user_id].append(watch)


def _open_own(watch: Watch) -> dict[int, State]:
    """Return the tasks of the one who watches that have not ended, the newest."""
    rows = TaskLog.objects.filter(created_by=watch.asked.user_id)
    rows = rows.exclude(status__in=TERMINAL, retry_at=None)
    keys = rows.order_by("-pk").values_list("pk", flat=True)[:MOST_OWN]
    return tasks_by_id(list(keys))


def _tell_all(watch: Watch, tasks: dict[int, State], batches: dict[str, State]) -> None:
    """Leave the present state of everything that a watch asks for, as its first news."""
    asked = watch.asked
    named = {key: tasks[key] for key in asked.tasks if key in tasks}
    counted = {key: batches[key] for key in asked.batches if key in batches}
    own = [tasks[key] for key in sorted(watch.following) if key in tasks]
    watch.put("snapshot", frame("snapshot", seen_of(asked, named, counted, own)))


def _tell_tasks(wanted: Wanted, fresh: dict[int, State]) -> None:
    for key, state in fresh.items():
        watches = [
            one for one in wanted.named.get(key, ()) if one.asked.sees("task", state)
        ]
        _put_to(watches, "task", state)
        _put_to(wanted.owners.get(state.owner, ()), "own", state)


def _put_to(watches: Collection[Watch], event: str, state: State) -> None:
    told = frame(event, state.told) if watches else b""
    for watch in watches:
        watch.put(f"{event}:{state.key}", told)


_reader: Reader | None = None
_making = threading.Lock()


def reader() -> Reader:
    """Return the reader of this process; a forked server process makes its own."""
    global _reader
    with _making:
        if _reader is None or _reader.pid != os.getpid():
            _reader = Reader()
        return _reader


def close_streams(user: Any = None, **_signal: Any) -> None:
    """End the streams of somebody who logs out, here and in every other process."""
    if user is not None and user.pk is not None:
        reader().part_from(user.pk)
        part_from(user.pk)
