"""The buttons of a batch: what a person does to all of its tasks, counted and on record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from .. import permissions
from ..audit import given_reason, perform
from ..batchcontrol import cancel_batch, pause_batch, resume_batch, retry_batch
from ..models import TaskBatch
from ..status import Status
from ..wording import counted
from .batchstate import is_held, is_over


@dataclass(frozen=True)
class Verb:
    """One thing that a person can do to a batch."""

    name: str
    label: Any
    #: What was done: "canceled".
    done: str
    permission: str
    #: Whether a batch can take it, whose numbers were read.
    fits: Callable[[Any], bool]
    #: How many tasks it would move then.
    moves: Callable[[Any], int]
    #: Does it by the room, which asks for the permission again; returns how many it moved.
    run: Callable[[str, Any, str], int]
    takes_reason: bool = False

    def press(self, request: HttpRequest, batch: TaskBatch) -> str | None:
        """Do it; return what the history says."""
        reason = given_reason(request.POST.get("reason"))
        return self.act(request.user, batch, reason)[1]

    def act(self, user: Any, batch: TaskBatch, reason: str) -> tuple[int, str | None]:
        """Do it; return how many tasks it moved, and what the history says.

        It goes in many short transactions, so the history says before the first one what was
        asked, and behind the last one what came of it: cut between them, it is on record.
        """
        why = f": {reason}" if reason and self.takes_reason else "."
        if permissions.may_to_batch(user, self.permission, batch):  # else the room refuses
            asked = self.name.replace("_", " ").capitalize()
            perform(user, batch, lambda: f"{asked} asked{why}")
        count = self.run(batch.pk, user, reason if self.takes_reason else "")
        told = f"{counted(count, 'task')} {self.done}{why}"
        return count, perform(user, batch, lambda: told)


def _left(batch: Any, status: Status) -> int:
    """Return how many members stand in a status and were not pruned."""
    return int(batch.numbers[status] - batch.pruned.get(status, 0))


RESUME = Verb(
    name="resume",
    label=_("Resume"),
    done="resumed",
    permission=permissions.PRIORITIZE,
    fits=is_held,
    moves=lambda batch: int(batch.numbers[Status.PAUSED]),
    run=lambda key, user, _reason: resume_batch(key, user=user),
)
RETRY = Verb(
    name="retry",
    label=_("Retry failed"),
    done="retried",
    permission=permissions.RETRY,
    fits=lambda batch: _left(batch, Status.FAILED) > 0,
    moves=lambda batch: _left(batch, Status.FAILED),
    run=lambda key, user, _reason: retry_batch(key, user=user),
)
RETRY_ALL = Verb(
    name="retry_all",
    label=_("Retry failed and canceled"),
    done="retried",
    permission=permissions.RETRY,
    fits=lambda batch: _left(batch, Status.CANCELED) > 0,
    moves=lambda batch: _left(batch, Status.FAILED) + _left(batch, Status.CANCELED),
    run=lambda key, user, _reason: retry_batch(key, canceled=True, user=user),
)
PAUSE = Verb(
    name="pause",
    label=_("Pause"),
    done="paused",
    permission=permissions.PRIORITIZE,
    fits=lambda batch: batch.paused_at is None and not is_over(batch),
    moves=lambda batch: int(batch.numbers[Status.PENDING] + batch.numbers[Status.QUEUED]),
    run=lambda key, user, reason: pause_batch(key, reason, user=user),
    takes_reason=True,
)
CANCEL = Verb(
    name="cancel",
    label=_("Cancel"),
    done="canceled",
    permission=permissions.CANCEL,
    fits=lambda batch: not is_over(batch),
    moves=lambda batch: int(batch.total - batch.numbers["done"]),
    run=lambda key, user, reason: cancel_batch(key, reason, user=user),
    takes_reason=True,
)
#: In the order of the buttons.
VERBS = (RESUME, RETRY, RETRY_ALL, PAUSE, CANCEL)


def buttons_for(batch: Any, user: Any) -> list[Verb]:
    """Return what ``user`` can do to ``batch`` as it stands."""
    return [
        verb
        for verb in VERBS
        if verb.fits(batch) and permissions.may_to_batch(user, verb.permission, batch)
    ]
