"""What a person does to tasks from admin: each act through its room, counted honestly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from .. import permissions
from ..audit import CHANGED, DELETED, perform
from ..cancellation import cancel
from ..copies import run_again
from ..exceptions import InvalidTransition, KeyTaken, NotPermitted, TaskControlError
from ..forcing import force_stop, may_be_forced
from ..holding import pause, resume
from ..models import TaskLog
from ..pruning import delete_tasks
from ..reordering import MOVABLE, move_to_front
from ..retries import retry
from ..status import MOVES, Status, sources_of
from .pressing import GONE

DELETE = "taskcontrol.delete_tasklog"


@dataclass(frozen=True)
class Verb:
    """One thing that a person can do to a task."""

    name: str
    label: Any
    #: What was done: "canceled".
    done: str
    permission: str
    #: Whether a task can take it as it stands.
    fits: Callable[[TaskLog], bool]
    #: Does it by the room, which asks for the permission again.
    run: Callable[[TaskLog, Any, str], Any]
    takes_reason: bool = False
    #: What ``run`` returns is another task.
    makes_a_copy: bool = False
    flag: int = CHANGED

    def act(self, task: TaskLog, user: Any, reason: str = "") -> str:
        """Do it to ``task``; return what the history says.

        Raises NotPermitted, or InvalidTransition with the status that was in the way.
        """

        def act() -> str:
            made = self.run(task, user, reason)
            told = self.done.capitalize()
            if self.makes_a_copy:
                return f"{told} as task {made.pk}."
            return f"{told}: {reason}" if reason else f"{told}."

        return perform(user, task, act, flag=self.flag) or ""


def _cancel(task: TaskLog, user: Any, reason: str) -> None:
    if not cancel(task, reason, user=user):
        task.refresh_from_db(fields=["status"])
        # A failed task can be canceled too, as long as a retry is due.
        allowed = sorted(sources_of(Status.CANCELED) - {Status.FAILED})
        raise InvalidTransition(task.pk, "canceled", task.status, allowed)


def _delete(task: TaskLog, user: Any, reason: str) -> None:
    key = task.pk
    permissions.require(user, DELETE, task, "delete")
    if not delete_tasks([key]):
        task.refresh_from_db(fields=["status"])
        raise InvalidTransition(key, "deleted", task.status, ("ended",))


CANCEL = Verb(
    name="cancel",
    label=_("Cancel"),
    done="canceled",
    permission=permissions.CANCEL,
    fits=lambda task: not task.ended and Status.CANCELED in MOVES[Status(task.status)],
    run=_cancel,
    takes_reason=True,
)
RETRY = Verb(
    name="retry",
    label=_("Retry"),
    done="retried",
    permission=permissions.RETRY,
    fits=lambda task: task.status in {Status.FAILED, Status.CANCELED},
    run=lambda task, user, reason: retry(task, user=user),
)
RETRY_NOW = Verb(
    name="retry_now",
    label=_("Retry now"),
    done="retried, first in line",
    permission=permissions.RETRY,
    fits=RETRY.fits,
    run=lambda task, user, reason: retry(task, now=True, user=user),
)
FORCE = Verb(
    name="force_stop",
    label=_("Stop by force"),
    done="to be stopped by force within a second",
    permission=permissions.CANCEL,
    fits=may_be_forced,
    run=lambda task, user, reason: force_stop(task, user=user),
)
PAUSE = Verb(
    name="pause",
    label=_("Pause"),
    done="paused",
    permission=permissions.PRIORITIZE,
    fits=lambda task: task.status == Status.PENDING,
    run=lambda task, user, reason: pause(task, user=user, reason=reason),
    takes_reason=True,
)
RESUME = Verb(
    name="resume",
    label=_("Resume"),
    done="resumed",
    permission=permissions.PRIORITIZE,
    fits=lambda task: task.status == Status.PAUSED,
    run=lambda task, user, reason: resume(task, user=user),
)
TO_FRONT = Verb(
    name="to_front",
    label=_("To the front"),
    done="put to the front",
    permission=permissions.PRIORITIZE,
    fits=lambda task: task.status in MOVABLE,
    run=lambda task, user, reason: move_to_front(task, user=user),
)
RUN_AGAIN = Verb(
    name="run_again",
    label=_("Run again"),
    done="run again",
    permission=permissions.RETRY,
    fits=lambda task: task.status == Status.FINISHED,
    run=lambda task, user, reason: run_again(task, user=user),
    makes_a_copy=True,
)
ERASE = Verb(
    name="erase",
    label=_("Delete"),
    done="deleted",
    permission=DELETE,
    fits=lambda task: task.ended and not task.occupies,
    run=_delete,
    flag=DELETED,
)
#: In the order of the buttons; a task is deleted by stock admin's own button.
BUTTONS = (FORCE, RETRY, RETRY_NOW, RUN_AGAIN, RESUME, TO_FRONT, PAUSE, CANCEL)


def buttons_for(task: TaskLog, user: Any) -> list[Verb]:
    """Return what ``user`` can do to ``task`` as it stands."""
    return [
        verb
        for verb in BUTTONS
        if verb.fits(task) and permissions.may(user, verb.permission, task)
    ]


def act_on_all(
    verb: Verb, tasks: Iterable[TaskLog], user: Any, reason: str
) -> Counter[str]:
    """Do it to each of ``tasks``; return what became of how many.

    The keys are the verb's ``done``, "already finished" and so on, "not permitted" and
    "no longer there". Each task is a transaction of its own: one that cannot be moved
    does not undo the others.
    """
    return Counter(_outcome(verb, task, user, reason) for task in tasks)


def _outcome(verb: Verb, task: TaskLog, user: Any, reason: str) -> str:
    try:
        verb.act(task, user, reason)
    except NotPermitted:
        return "not permitted"
    except GONE:
        return "no longer there"
    except TaskControlError as error:
        return _refusal(verb, error)
    return verb.done


def in_the_way(verb: Verb, status: str) -> str:
    """Return what became of a task that the verb does not fit: "already finished"."""
    return "not ended yet" if verb is ERASE else f"already {status.lower()}"


def _refusal(verb: Verb, error: TaskControlError) -> str:
    if isinstance(error, KeyTaken):
        return "left, since another has their key"
    if isinstance(error, InvalidTransition):
        return "not ended yet" if verb is ERASE else f"already {error.status.lower()}"
    return "refused: press the button on their pages to see why"


def told(outcomes: Counter[str], verb: Verb) -> str:
    """Return the outcomes as one sentence: "38 canceled, 2 already finished"."""
    left = {key: number for key, number in sorted(outcomes.items()) if key != verb.done}
    parts = [f"{outcomes[verb.done]:,} {verb.done}"]
    return ", ".join([*parts, *(f"{number:,} {key}" for key, number in left.items())]) + "."
