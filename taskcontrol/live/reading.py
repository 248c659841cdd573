"""What the readings of one web process tell its open pages, each change once."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Max

from ..models import TaskLog
from ..status import TERMINAL
from .states import State, batches_by_id, newest_own, tasks_by_id, with_newest
from .watching import Watch, frame, seen_of

#: Seconds between two readings of everything that is watched.
READ_EVERY = 1.0
#: Seconds for which news of batches are gathered: their members are counted each time.
GATHER = 0.1
#: Own tasks that have not ended of which a page hears from its start on, the newest, and
#: new ones that one reading takes.
MOST_OPEN = 200


@dataclass
class Reading:
    """What the readings of one thread remember of the ones before."""

    #: The mark of each thing when it was last told.
    known: dict[str, Any] = field(default_factory=dict)
    #: The newest task when own tasks were last looked for.
    newest: int | None = None
    #: Batches with news, and a member that brought them.
    moved: dict[str, State | None] = field(default_factory=dict)
    #: Members with news that wait for the numbers of their batches.
    waiting: dict[int, State] = field(default_factory=dict)
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
        news = {key: state for key, state in states.items() if self._is_news("task", state)}
        fresh = {**self.waiting, **news}
        self._note_batches(wanted, fresh)
        self._note_asked(new, states)
        if whole:
            self.moved = {**dict.fromkeys(wanted.batches), **self.moved}
            self._forget(wanted)
        counted = self._count(now=whole or bool(new))
        self.waiting = wanted.members(fresh) if counted is None else {}
        for watch in new:
            _tell_all(watch, states, counted or {})
        ready = {key: fresh[key] for key in fresh.keys() - self.waiting.keys()}
        _tell_tasks(wanted, ready, counted or {})
        if counted is not None:
            self._tell_batches(wanted, counted)
            self.moved.clear()
        if whole:
            self.read_at = time.monotonic()

    def start_over(self) -> None:
        """After a reading that failed: try again in a while, and take everything for news."""
        self.known.clear()
        self.moved.clear()
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
                states.update(_own(watch))
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
        keys = rows.order_by("pk").values_list("pk", flat=True)[:MOST_OPEN]
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
        for state in wanted.members(fresh).values():
            self.moved.setdefault(state.told["batch_id"], None)

    def _note_asked(self, new: list[Watch], states: dict[int, State]) -> None:
        """Let the batches be counted that a first news tells of."""
        for watch in new:
            told = [state for key, state in states.items() if _tells(watch, key, state)]
            batches = {state.told["batch_id"] for state in told} - {None}
            for batch_id in watch.asked.batches | batches:
                self.moved.setdefault(batch_id, None)

    def _count(self, *, now: bool) -> dict[str, State] | None:
        """Return the batches that moved; None when it is too early to count them again."""
        if not self.moved:
            return {}
        if not now and time.monotonic() < self.counted_at + GATHER:
            return None
        self.counted_at = time.monotonic()
        return batches_by_id(self.moved)

    def _tell_batches(self, wanted: Wanted, batches: dict[str, State]) -> None:
        told: dict[str, State] = {}
        unnamed: dict[str, State] = {}
        for batch_id in batches.keys() & wanted.batches.keys():
            state, member = batches[batch_id], self.moved.get(batch_id)
            if not self._is_news("batch", state) and member is None:
                continue
            # The last news is that of the member that ended last, whatever was read before.
            if member is None or state.told["ended"]:
                unnamed[batch_id] = state
            else:
                told[batch_id] = state.with_news(member)
        for batch_id, state in {**told, **with_newest(unnamed)}.items():
            news = frame("batch", state.told)
            for watch in wanted.batches[batch_id]:
                if watch.asked.sees("batch", state):
                    watch.put(f"batch:{batch_id}", news)

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

    def members(self, tasks: dict[int, State]) -> dict[int, State]:
        """Return those of ``tasks`` that stand in a batch and are told on their own."""
        return {
            key: state
            for key, state in tasks.items()
            if state.told["batch_id"] and (key in self.named or state.owner in self.owners)
        }


def _own(watch: Watch) -> dict[int, State]:
    """Return the newest tasks of the one who watches, and more of those not ended yet."""
    user_id = watch.asked.user_id
    rows = TaskLog.objects.filter(created_by=user_id)
    rows = rows.exclude(status__in=TERMINAL, retry_at=None)
    keys = rows.order_by("-pk").values_list("pk", flat=True)[:MOST_OPEN]
    return tasks_by_id(newest_own(user_id) | set(keys))


def _tells(watch: Watch, key: int, state: State) -> bool:
    """Return whether the first news of a watch tells of a task."""
    asked = watch.asked
    return key in asked.tasks or (asked.own and state.owner == asked.user_id)


def _tell_all(watch: Watch, tasks: dict[int, State], batches: dict[str, State]) -> None:
    """Leave the present state of everything that a watch asks for, as its first news."""
    asked = watch.asked
    told = {
        key: state.in_batch(batches)
        for key, state in sorted(tasks.items())
        if _tells(watch, key, state)
    }
    named = {key: state for key, state in told.items() if key in asked.tasks}
    own = [state for state in told.values() if asked.own and state.owner == asked.user_id]
    counted = {key: batches[key] for key in asked.batches if key in batches}
    all_of_it = seen_of(asked, named, with_newest(counted), own)
    watch.put("snapshot", frame("snapshot", all_of_it))


def _tell_tasks(wanted: Wanted, fresh: dict[int, State], batches: dict[str, State]) -> None:
    for key, read in fresh.items():
        state = read.in_batch(batches)
        watches = [
            one for one in wanted.named.get(key, ()) if one.asked.sees("task", state)
        ]
        _put_to(watches, "task", state)
        _put_to(wanted.owners.get(state.owner, ()), "own", state)


def _put_to(watches: Collection[Watch], event: str, state: State) -> None:
    told = frame(event, state.told) if watches else b""
    for watch in watches:
        watch.put(f"{event}:{state.key}", told)
