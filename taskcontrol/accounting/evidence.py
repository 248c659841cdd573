"""What rows, broker and workers say at one moment, and what may be found amiss in it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from functools import cached_property

from ..incidents import Kind
from ..models import TaskAttempt, TaskLog, Worker
from .messages import Waiting

Key = tuple[int, int]


class Repair(Enum):
    """What can be done by hand about a finding, before a sweep does it."""

    UNSEND = auto()
    RESCUE = auto()
    REMOVE = auto()
    STOP = auto()


@dataclass(frozen=True)
class Finding:
    """One thing that should not be: which attempt, what is amiss, and what mends it."""

    kind: Kind
    task_id: int = 0
    attempt: int = 0
    key: str = ""
    text: str = field(default="", compare=False)
    #: What happens about it by itself.
    mended_by: str = field(default="", compare=False)
    repair: Repair | None = field(default=None, compare=False)
    worker: int | None = field(default=None, compare=False)
    #: When the worker gave the word on which this rests: only a newer one confirms it.
    word_of: datetime | None = field(default=None, compare=False)
    #: The messages that are too many.
    messages: tuple[Waiting, ...] = field(default=(), compare=False)


@dataclass
class Facts:
    """What the three say at one moment."""

    #: By the database's clock.
    at: datetime
    #: The prefix of this site's message ids.
    site: str
    #: The rows that hold a place, and those that a message or a worker names.
    rows: dict[int, TaskLog]
    #: Runs that were followed by another, of the attempts that workers name.
    runs: dict[Key, TaskAttempt]
    #: The workers that are neither gone nor silent.
    workers: dict[int, Worker]
    messages: list[Waiting]
    #: Why there may be other messages; empty when these are all.
    unread: str = ""

    @cached_property
    def holders(self) -> dict[Key, list[Worker]]:
        """Who says that he holds which attempt."""
        found: dict[Key, list[Worker]] = defaultdict(list)
        for worker in self.workers.values():
            for task_id, attempt in worker.held:
                found[task_id, attempt].append(worker)
        return dict(found)

    @cached_property
    def asked_for(self) -> dict[Key, list[Waiting]]:
        """The messages that can be read, by the attempt that they ask for."""
        found: dict[Key, list[Waiting]] = defaultdict(list)
        for message in self.messages:
            if message.key is not None and not self.strange(message):
                found[message.key].append(message)
        return dict(found)

    def strange(self, message: Waiting) -> str:
        """Return the name of the other site that sent a message; empty for our own."""
        site, _, rest = message.celery_task_id.partition("-")
        number, _, attempt = rest.partition("-")
        known = len(site) == len(self.site) and number.isdigit() and attempt.isdigit()
        return site if known and site != self.site else ""
