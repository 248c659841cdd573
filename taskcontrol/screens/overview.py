"""The front page of taskcontrol in admin: tasks by status, and whether everything is alive."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from ..conf import known_queues
from ..counting import Capped, capped_count
from ..doctor.findings import Level
from ..doctor.punctuality import examine_schedules
from ..monitoring import Snapshot, snapshot
from ..obstacles import PASS_OVERDUE
from ..permissions import VIEW, visible_to
from ..status import Status
from ..suspension import PERMISSION, dispatcher_state
from .dispatcher import switch_context
from .presentation import ago, status_badge, visible

#: Who may look at the machinery.
OVERSEER = "taskcontrol.view_dispatcherstate"


@dataclass(frozen=True)
class Sign:
    """One sign of life, good or bad."""

    name: str
    #: running, silent, never seen …
    word: str
    #: When it was given, what to know of it, or what to do.
    detail: Any = ""
    good: bool = field(default=False, kw_only=True)


def overview_for(user: Any) -> dict[str, Any]:
    """Return what the front page shows ``user``; without the permission the own tasks."""
    sees_all = user.has_perm(VIEW)
    oversees = sees_all or user.has_perm(OVERSEER) or user.has_perm(PERMISSION)
    now = snapshot() if oversees else None
    numbers = _all_numbers(now) if now and sees_all else _own_numbers(user)
    return {
        "switch": switch_context(user, dispatcher_state()),
        "cards": [_card(status, number) for status, number in numbers.items()],
        "own": not sees_all,
        "signs": _signs(now) if now else [],
    }


def _all_numbers(now: Snapshot) -> dict[Status, int]:
    numbers = {status: now.tasks.by_status[status] for status in Status}
    if now.tasks.finished_is_more:
        numbers[Status.FINISHED] = Capped(numbers[Status.FINISHED])
    return numbers


def _own_numbers(user: Any) -> dict[Status, int]:
    mine = visible_to(user)
    return {status: capped_count(mine.filter(status=status)) for status in Status}


def _card(status: Status, number: int) -> dict[str, Any]:
    query = urlencode({"status__exact": status})
    return {
        "badge": status_badge(status),
        "number": str(number) if isinstance(number, Capped) else f"{number:,}",
        "some": number > 0,
        "kind": status.lower(),
        "url": f"{reverse('admin:taskcontrol_tasklog_changelist')}?{query}",
    }


def _signs(now: Snapshot) -> list[Sign]:
    alive = [_dispatcher(now), _workers(now), _queues(now), _beat(now), _broker(now)]
    return [*alive, *_schedules()]


def _dispatcher(now: Snapshot) -> Sign:
    numbers = _numbers(now)
    passed = numbers.last_pass_seconds
    if passed is None:
        return Sign(_("Last pass"), _("never"), _("It runs in the workers."))
    late = passed > PASS_OVERDUE
    return Sign(
        _("Last pass"), _("late") if late else _("in time"), _at(now, passed), good=not late
    )


def _workers(now: Snapshot) -> Sign:
    live = [worker for worker in now.workers if worker.state == "live"]
    if not live:
        return Sign(_("Workers"), _("none"), "manage.py taskcontrol worker")
    told = _("%(busy)s of %(slots)s slots taken") % {
        "busy": sum(worker.busy for worker in live),
        "slots": sum(worker.slots for worker in live),
    }
    ill = sum(worker.state in {"silent", "not consuming"} for worker in now.workers)
    if ill:
        told += _("; %(number)s silent or not consuming") % {"number": ill}
    return Sign(
        _("Workers"), _("%(number)s live") % {"number": len(live)}, told, good=not ill
    )


def _queues(now: Snapshot) -> Sign:
    """A queue with work that nobody takes is a fault; an empty one is not."""
    waiting = [queue.name for queue in now.queues if queue.pending and not queue.workers]
    if waiting:
        names = visible(", ".join(waiting))
        return Sign(_("Queues"), _("without a worker"), names)
    paused = [queue.name for queue in now.queues if queue.paused]
    if paused:
        return Sign(_("Queues"), _("paused"), visible(", ".join(paused)))
    number = len({*known_queues(), *(queue.name for queue in now.queues)})
    return Sign(_("Queues"), _("%(number)s open") % {"number": number}, good=True)


def _beat(now: Snapshot) -> Sign:
    numbers = _numbers(now)
    if numbers.beat_seconds is None:
        return Sign(_("Beat"), _("never seen"), "celery -A … beat")
    seen = _at(now, numbers.beat_seconds)
    silent = numbers.beat_is_silent
    return Sign(_("Beat"), _("silent") if silent else _("alive"), seen, good=not silent)


def _broker(now: Snapshot) -> Sign:
    error = _numbers(now).broker_error
    if error:
        return Sign(_("Broker"), _("unreachable"), visible(error))
    return Sign(_("Broker"), _("reachable"), good=True)


def _schedules() -> list[Sign]:
    """Say the first thing that is wrong with the schedules, if there are any."""
    found = next(examine_schedules(), None)
    if found is None:
        return []
    if found.level is Level.OK:
        return [Sign(_("Schedules"), _("in time"), visible(found.text), good=True)]
    return [Sign(_("Schedules"), _("amiss"), visible(f"{found.subject}: {found.text}"))]


def _numbers(now: Snapshot) -> Any:
    return now.dispatcher


def _at(now: Snapshot, passed: float) -> Any:
    at: datetime = now.at - timedelta(seconds=passed)
    return ago(at, now.at)
