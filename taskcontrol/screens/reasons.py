"""Shows why a task waits: each reason with where it leads, and when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..models import DispatcherState, QueueState, TaskBatch, TaskLog, TaskType, Worker
from ..obstacles import Reason
from ..permissions import VIEW
from ..status import Status
from ..waits import Part
from ..wording import duration
from .addresses import admin_url
from .presentation import ago, link, visible

#: Holders that are led to.
MOST_LINKS = 10


@dataclass(frozen=True)
class Shown:
    """A reason as the page shows it."""

    code: str
    text: str
    links: list[SafeString]
    #: When it ends: "in 12 s"; "about" says that this is a guess.
    when: SafeString | str
    about: bool


def show(reasons: Iterable[Reason], task: TaskLog, user: Any, now: datetime) -> list[Shown]:
    """Return ``reasons`` with links to what ``user`` may see, in their order."""
    return [
        _shown(reason, task, user, now) for reason in reasons if reason.code != "waited"
    ]


def _shown(reason: Reason, task: TaskLog, user: Any, now: datetime) -> Shown:
    sure = reason.until is not None and reason.until > now
    # The others say it in their text.
    expected = reason.expected if reason.code == "after" else None
    guess = not sure and expected is not None and expected > now
    end = reason.until if sure else expected if guess else None
    return Shown(
        code=reason.code,
        text=visible(reason.text),
        links=[*_holders(reason, task, user), *_places(reason, task, user)],
        when=ago(end, now) if end else "",
        about=guess,
    )


def _holders(reason: Reason, task: TaskLog, user: Any) -> list[SafeString]:
    if not user.has_perm(VIEW):
        return []
    others = [pk for pk in reason.holders if pk != task.pk]
    return [link(task_url(pk), _("task %(id)s") % {"id": pk}) for pk in others[:MOST_LINKS]]


def _places(reason: Reason, task: TaskLog, user: Any) -> list[SafeString]:
    find = _PLACES.get(reason.code)
    found = find(reason, task, user) if find else None
    return [found] if found else []


def task_url(pk: int) -> str:
    """Return the address of the page of a task."""
    return admin_url("taskcontrol_tasklog_change", pk)


def page_link(model: Any, user: Any, text: Any, **key: Any) -> SafeString | None:
    """Return a link to the page of a row, if there is one and ``user`` may see it."""
    name = model._meta.model_name
    if not user.has_perm(f"taskcontrol.view_{name}"):
        return None
    pk = model.objects.filter(**key).values_list("pk", flat=True).first()
    if pk is None:
        return None
    return link(admin_url(f"taskcontrol_{name}_change", pk), text)


def _the_type(reason: Reason, task: TaskLog, user: Any) -> SafeString | None:
    return page_link(TaskType, user, _("the type"), method=task.method)


def _the_queue(reason: Reason, task: TaskLog, user: Any) -> SafeString | None:
    return page_link(QueueState, user, _("the queue"), name=task.queue)


def _the_dispatcher(reason: Reason, task: TaskLog, user: Any) -> SafeString | None:
    one = DispatcherState.THE_ONE
    return page_link(DispatcherState, user, _("the dispatcher"), pk=one)


def _the_batch(reason: Reason, task: TaskLog, user: Any) -> SafeString | None:
    return page_link(TaskBatch, user, _("the batch"), pk=task.batch_id)


def _the_workers(reason: Reason, task: TaskLog, user: Any) -> SafeString | None:
    if not user.has_perm("taskcontrol.view_worker"):
        return None
    return link(admin_url("taskcontrol_worker_changelist"), _("the workers"))


def _its_worker(reason: Reason, task: TaskLog, user: Any) -> SafeString | None:
    return page_link(Worker, user, _("the worker"), pk=task.worker_id)


def _the_line(reason: Reason, task: TaskLog, user: Any) -> SafeString | None:
    if not user.has_perm(VIEW):
        return None
    asked = {"status": Status.PENDING, "queue": task.queue}
    if reason.code == "ahead_in_type":
        asked["method"] = task.method
    return link(admin_url("taskcontrol_tasklog_changelist", **asked), _("what waits"))


_PLACES: dict[str, Callable[[Reason, TaskLog, Any], SafeString | None]] = {
    "suspended": _the_dispatcher,
    "no_dispatcher": _the_dispatcher,
    "broker": _the_dispatcher,
    "type_paused": _the_type,
    "limit": _the_type,
    "rate": _the_type,
    "queue_paused": _the_queue,
    "slots": _the_workers,
    "no_worker": _the_workers,
    "claimed": _its_worker,
    "worker_gone": _the_workers,
    "worker_silent": _the_workers,
    "batch_held": _the_batch,
    "ahead_in_type": _the_line,
    "ahead_in_queue": _the_line,
}


@dataclass(frozen=True)
class Slice:
    """A part of a wait, with its place in a bar of 100."""

    part: Part
    x: float
    width: float

    @property
    def time(self) -> str:
        """How long it was."""
        return duration(self.part.seconds)

    @property
    def text(self) -> str:
        """What it was spent for."""
        return visible(self.part.text)


def slices_of(parts: list[Part]) -> list[Slice]:
    """Return the parts of a wait as they lie side by side."""
    whole = sum(part.seconds for part in parts)
    slices, x = [], 0.0
    for part in parts:
        width = 100 * part.seconds / whole
        slices.append(Slice(part, x, width))
        x += width
    return slices
