"""What a scenario has enqueued, and what became of it, in the words of Jepsen's total-queue."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from django.db import InterfaceError, OperationalError, connections
from django.utils import timezone

import taskcontrol
from taskcontrol.models import TaskAttempt, TaskLog
from taskcontrol.status import Status
from tests.faults.nemesis import Nemesis
from tests.faults.scene import patiently
from tests.faults.silences import Silence, was_silenced
from tests.recording import STARTED, Record
from tests.waiting import eventually

#: What the archive says of a run whose worker was silent, while its body may go on.
ZOMBIE = "its process was lost (worker "

#: Seconds after the last fault in which everything has ended: 15 for a server that restarts,
#: 5 for a worker that is lost, and as long for what waits then (``striking.MOST_WAITING``).
QUIET = 25.0


class Ledger:
    """The calls of a scenario, each with a number of its own in ``job_name``."""

    def __init__(self, record: Record, *, ends: Mapping[str, Status] | None = None) -> None:
        self.record = record
        #: How many calls there were, and which of them were answered.
        self.calls = 0
        self.acknowledged: dict[str, int] = {}
        #: Ends other than Finished, by method.
        self.ends = ends or {}

    def enqueue(self, body: Callable[..., Any], **options: Any) -> None:
        """Enqueue one task; without an answer nobody knows whether it is there."""
        self.calls += 1
        name = f"call-{self.calls}"
        try:
            row = taskcontrol.enqueue(body, tag=name, job_name=name, **options)
        except (OperationalError, InterfaceError):
            connections["default"].close()
        else:
            assert row is not None
            self.acknowledged[name] = row.pk

    def left(self) -> int:
        """Return how many tasks have not ended, or hold a place."""

        def ask() -> int:
            return (
                TaskLog.objects.count()
                - TaskLog.objects.filter(occupies=False).ended().count()
            )

        return patiently(ask)

    def quiet(self, nemesis: Nemesis) -> float:
        """Wait until everything has ended; return the seconds since the last fault.

        No more than ``QUIET``: what is promised holds on a busy machine too.
        """

        def is_quiet() -> bool:
            waits = self.left()
            nemesis.say(f"{waits} tasks left")
            return not waits

        eventually(is_quiet, QUIET, every=0.5, why=nemesis.told)
        took = round(time.monotonic() - nemesis.last_at, 1)
        assert took <= QUIET, f"quiet only after {took} s\n{nemesis.told()}"
        return took

    def summary(self) -> dict[str, Any]:
        """Return the numbers, when everything has ended."""
        rows = {row.job_name: row for row in TaskLog.objects.all()}
        starts = self.record.starts()
        known = {row.pk: row.attempt for row in rows.values()}
        seen = self.acknowledged.keys() & rows.keys()
        right = {name for name in rows if self._is_right(rows[name])}
        unasked = [name for name in rows if name not in self._names()]
        strange = [one for one in starts if one[1] > known.get(one[0], 0)]
        # Committed although the caller heard nothing: as good as any other.
        unheard = rows.keys() - self.acknowledged.keys() - set(unasked)
        return {
            "tasks": self.calls,
            "acknowledged": len(self.acknowledged),
            "ok": len(seen & right),
            "lost": len(self.acknowledged) - len(seen & right) + len(unheard - right),
            "recovered": len(unheard & right),
            "duplicated": sum(1 for times in starts.values() if times > 1),
            "unexpected": len(unasked) + len(strange),
            "bodies": starts.total(),
            "rescued": sum(row.lost_count for row in rows.values()),
        }

    def wrong(self) -> list[str]:
        """Return what is not as it should be, for the message of a failed test."""
        found = [
            f"{row.job_name} {row.method} {row.status} {row.ended_reason} {row.error_message}"
            for row in TaskLog.objects.all()
            if not self._is_right(row)
        ]
        twice = [str(key) for key, times in self.record.starts().items() if times > 1]
        return [*found, *(f"twice: {one}" for one in twice)]

    def _names(self) -> set[str]:
        return {f"call-{number + 1}" for number in range(self.calls)}

    def _is_right(self, row: TaskLog) -> bool:
        wanted = self.ends.get(row.method, Status.FINISHED)
        used_up = wanted is Status.FINISHED or row.retry_count == row.max_retries
        return row.status == wanted and used_up and not row.occupies


class Audit:
    """Who ran beside whom: read from what each body saw when it began.

    Only who was ``silenced`` for long enough may have been given up on while its body ran.
    """

    def __init__(self, record: Record, silenced: Iterable[Silence] = ()) -> None:
        silences = list(silenced)
        #: When each attempt of a silent worker was given up on, by the clock of the bodies.
        self._given_up = {
            key: at for key, worker, at in _given_up() if was_silenced(silences, worker, at)
        }
        #: Most bodies at once, by kind, without those that were rightly given up on.
        self.peaks: Counter[str] = Counter()
        #: How often a body began while another attempt of its task was there.
        self.overlaps: list[Any] = []
        #: Bodies that had rightly been given up on, and yet were there when others began.
        self.zombies: set[tuple[int, int]] = set()
        for line in record.lines(STARTED):
            self._look_at(line)

    def _look_at(self, line: dict[str, Any]) -> None:
        there = {(task, attempt) for task, attempt in line["company"]}
        zombies = {
            one for one in there if self._given_up.get(one, float("inf")) < line["at"]
        }
        living = there - zombies
        self.zombies |= zombies
        self.peaks[line["kind"]] = max(self.peaks[line["kind"]], len(living))
        if sum(1 for task, _ in living if task == line["task"]) > 1:
            self.overlaps.append((line["task"], line["attempt"], sorted(living)))


def _given_up() -> Iterator[tuple[tuple[int, int], str, float]]:
    """Find the attempts that were given up on with their worker: which, whose, and when."""
    ago = timezone.now().timestamp() - time.clock_gettime(time.CLOCK_MONOTONIC)
    lost = TaskAttempt.objects.filter(ended_reason__startswith=ZOMBIE)
    for one in lost:
        worker = one.ended_reason.removeprefix(ZOMBIE).removesuffix(")")
        assert one.ended_at is not None
        yield (one.task_id, one.attempt), worker, one.ended_at.timestamp() - ago
