"""Signs of life on the overview: whether everything that tasks need is there and in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, F
from django.utils.html import format_html
from django.utils.translation import gettext as _, ngettext

from .. import bell, dialect
from ..conf import conf, known_queues
from ..doctor.findings import Level
from ..doctor.punctuality import examine_schedules
from ..flow import Flow, flows
from ..incidents import Kind, unresolved
from ..models import DispatcherState, TaskLog
from ..monitoring import (
    DispatcherNumbers,
    WorkerNumbers,
    dispatcher_numbers,
    held_places,
    list_workers,
    paused_queues,
)
from ..obstacles import PASS_OVERDUE
from ..wording import listed
from .addresses import admin_url
from .incidents import OPEN, PERMISSION as SEES_INCIDENTS
from .presentation import ago, link, visible

#: Seconds after which what a sweep should have done is late.
SWEEP_LATE = 30.0
COUNTING_LATE = timedelta(minutes=5)
#: Seconds that Redis has to answer a page.
REDIS_ANSWERS = 0.3


@dataclass(frozen=True)
class Sign:
    """One sign of life, good or bad."""

    name: str
    #: running, silent, never seen …
    word: str
    #: When it was given, what to know of it, or what to do.
    detail: Any = ""
    good: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class Present:
    """The machinery at one moment of the database's clock."""

    at: datetime
    workers: list[WorkerNumbers]
    queues: dict[str, Flow]
    paused: set[str]
    dispatcher: DispatcherNumbers


def present() -> Present:
    """Return what the machinery does at this moment, counted no further than a page needs."""
    at = dialect.now(conf.DATABASE)
    workers = list_workers(at, held_places())
    return Present(at, workers, flows(), paused_queues(), dispatcher_numbers())


def signs_of(now: Present, state: DispatcherState, user: Any) -> list[Sign]:
    """Return what is alive, silent, late or lost."""
    return [
        _dispatcher(now),
        _workers(now),
        _lost(now),
        _incidents(user),
        _queues(now),
        _sweeps(now, state),
        _beat(now),
        _broker(now),
        _redis(),
        *_schedules(),
    ]


def _dispatcher(now: Present) -> Sign:
    passed = _numbers(now).last_pass_seconds
    if passed is None:
        return Sign(_("Last pass"), _("never"), _("It runs in the workers."))
    late = passed > PASS_OVERDUE
    return Sign(
        _("Last pass"), _("late") if late else _("in time"), _at(now, passed), good=not late
    )


def _workers(now: Present) -> Sign:
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


def _lost(now: Present) -> Sign:
    """A lost one is told for an hour."""
    names = [worker.name for worker in now.workers if worker.state == "lost"]
    if not names:
        return Sign(_("Lost workers"), _("none"), good=True)
    told = _("%(number)s within the hour") % {"number": len(names)}
    return Sign(_("Lost workers"), told, visible(listed(names, 3)))


def _incidents(user: Any) -> Sign:
    """Messages that lead to nothing are told, and are no reason to worry."""
    kinds = unresolved().order_by().values_list("kind").annotate(number=Count("pk"))
    numbers = dict(kinds)
    if not numbers:
        return Sign(_("Incidents"), _("none"), good=True)
    told = ", ".join(f"{Kind(kind).label} {n:,}" for kind, n in sorted(numbers.items()))
    number = sum(numbers.values())
    word = ngettext("%(number)s unresolved", "%(number)s unresolved", number)
    shown = visible(told)
    if user.has_perm(SEES_INCIDENTS):
        shown = link(admin_url("taskcontrol_incident_changelist", state=OPEN), told)
    harmless = numbers.keys() <= {Kind.GHOST}
    return Sign(_("Incidents"), word % {"number": number}, shown, good=harmless)


def _queues(now: Present) -> Sign:
    """A queue with work that nobody takes is a fault; an empty one is not."""
    waiting = [queue.name for queue in now.queues.values() if queue.unserved]
    if waiting:
        names = visible(", ".join(waiting))
        return Sign(_("Queues"), _("without a worker"), names)
    if now.paused:
        return Sign(_("Queues"), _("paused"), visible(", ".join(sorted(now.paused))))
    number = len({*known_queues(), *now.queues})
    return Sign(_("Queues"), _("%(number)s open") % {"number": number}, good=True)


def _sweeps(now: Present, state: DispatcherState) -> Sign:
    """Sweeps leave no sign but what they do: late is what should have been done."""
    late = list(_undone(now, state))
    if late:
        return Sign(_("Sweeps"), _("late"), "; ".join(late))
    return Sign(_("Sweeps"), _("in time"), _("retries, lost workers, counting"), good=True)


def _undone(now: Present, state: DispatcherState) -> Iterator[str]:
    due = TaskLog.objects.filter(
        retry_at__lt=now.at - timedelta(seconds=SWEEP_LATE),
        retry_count__lt=F("max_retries"),
    )
    if due.exists():
        yield _("retries are due and not made")
    patience = conf.WORKER_LOST_AFTER + SWEEP_LATE
    silent = sum(
        worker.state == "silent" and worker.seen_seconds > patience
        for worker in now.workers
    )
    if silent:
        told = ngettext(
            "%(number)s silent worker is not declared lost",
            "%(number)s silent workers are not declared lost",
            silent,
        )
        yield told % {"number": silent}
    counted = state.rolled_until
    if counted is not None and now.at - counted > COUNTING_LATE:
        yield _("what ended is not counted, so the charts end early")


def _beat(now: Present) -> Sign:
    numbers = _numbers(now)
    if numbers.beat_seconds is None:
        return Sign(_("Beat"), _("never seen"), "manage.py taskcontrol beat")
    seen = _at(now, numbers.beat_seconds)
    if not numbers.beat_is_silent:
        return Sign(_("Beat"), _("alive"), seen, good=True)
    if _all_slots_are_taken(now):
        told = format_html(_("{}; what it sends waits for a free slot"), seen)
        return Sign(_("Beat"), _("not heard"), told, good=True)
    return Sign(_("Beat"), _("silent"), seen)


def _all_slots_are_taken(now: Present) -> bool:
    """Return whether nobody could run what beat sends, which is its sign of life."""
    live = [worker for worker in now.workers if worker.state == "live"]
    return bool(live) and all(worker.busy >= worker.slots for worker in live)


def _broker(now: Present) -> Sign:
    """What the last message met."""
    error = _numbers(now).broker_error
    if error:
        return Sign(_("Broker"), _("unreachable"), visible(error))
    return Sign(_("Broker"), _("reachable"), good=True)


def _redis() -> Sign:
    """Redis carries the bell and the pokes of live pages; all goes on without, later."""
    if bell.redis_url() is None:
        return Sign("Redis", _("not used"), _("Passes come by timer."), good=True)
    try:
        client = bell.connect(timeout=REDIS_ANSWERS)
        try:
            client.ping()
        finally:
            client.close()
    except Exception:  # noqa: BLE001 - whatever it is, the page says that it does not answer
        return Sign("Redis", _("no answer"), _("Passes and live pages come by timer."))
    return Sign("Redis", _("answers"), good=True)


def _schedules() -> list[Sign]:
    """Say the first thing that is wrong with the schedules, if there are any."""
    found = next(examine_schedules(), None)
    if found is None:
        return []
    if found.level is Level.OK:
        return [Sign(_("Schedules"), _("in time"), visible(found.text), good=True)]
    word = _("late") if found.level is Level.FAIL else _("amiss")
    return [Sign(_("Schedules"), word, visible(f"{found.subject}: {found.text}"))]


def _numbers(now: Present) -> DispatcherNumbers:
    return now.dispatcher


def _at(now: Present, passed: float) -> Any:
    at: datetime = now.at - timedelta(seconds=passed)
    return ago(at, now.at)
