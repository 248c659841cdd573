"""The sweep that accounts: writes down what stands amiss, and what mended it when it is over."""

from __future__ import annotations

import time
from typing import Any

from django.db.models import Q

from .. import incidents
from ..conf import conf
from ..context import without_user_code
from ..dialect import DatabaseNow
from ..history import record
from ..incidents import Kind
from ..models import DispatcherState, TaskEvent, TaskLog, seconds
from .evidence import Finding, Repair
from .looks import Account, Look, between_looks, confirmed, look

#: What an account finds; the referee in the database writes the others.
OURS = (Kind.LOST, Kind.GHOST, Kind.DOUBLE, Kind.ZOMBIE)
#: What is told of a task when a sweep has mended it.
MENDING = (
    TaskEvent.Kind.RESENT,
    TaskEvent.Kind.UNSENT,
    TaskEvent.Kind.RESCUED,
    TaskEvent.Kind.RETURNED,
    TaskEvent.Kind.FORCED,
    TaskEvent.Kind.CANCELED,
)


def write_down(account: Account) -> None:
    """Record what stands, have bodies ended that were given up, and note what is over."""
    for one in account.standing:
        if one.repair is Repair.STOP:
            tell_to_stop(one)
        incidents.report(
            one.kind,
            one.text,
            task_id=one.task_id,
            attempt=one.attempt,
            key=one.key,
            worker=one.worker,
            repair=one.mended_by,
        )
    if not account.last.broker_answered:
        return
    seen = {(one.kind, one.task_id, one.attempt, one.key) for one in account.last.findings}
    # Who looked may have been frozen since: what was seen after it is not for it to end.
    known = incidents.unresolved().filter(kind__in=OURS, last_at__lte=account.last.facts.at)
    for row in known[: conf.SWEEP_PAGE]:
        if (row.kind, row.task_id, row.attempt, row.key) not in seen:
            incidents.resolve([row.pk], repair=_what_mended(row))


def tell_to_stop(finding: Finding) -> None:
    """Let the worker kill a body that nobody waits for; on threads and solo pools none can."""
    body = TaskLog(pk=finding.task_id, attempt=finding.attempt)
    told = TaskEvent.objects.filter(
        task=body.pk, attempt=body.attempt, kind=TaskEvent.Kind.FORCING
    )
    if not told.exists():
        record([body], TaskEvent.Kind.FORCING, detail="an account found it")


def _what_mended(incident: Any) -> str:
    """Say what the events of the task tell; they are where a repair is recorded."""
    if not incident.task_id:
        return "it was gone when looked at again"
    events = TaskEvent.objects.filter(
        task=incident.task_id,
        kind__in=MENDING,
        at__gte=incident.first_at - seconds(2 * between_looks()),
    )
    event = events.order_by("pk").last()
    if event is None:
        return "it was gone when looked at again"
    return f"{event.get_kind_display()}: {event.detail}".rstrip(": ")


class Accountant:
    """The sweep of a worker's main process: one worker of all makes an account at a time."""

    def __init__(self) -> None:
        self._first: Look | None = None
        self._go_on_at = 0.0

    def run(self) -> None:
        """Begin an account when one is due, or end the one that is begun; waits for nothing."""
        with without_user_code():
            if self._first is None:
                self._begin()
            elif time.monotonic() >= self._go_on_at:
                first, self._first = self._first, None
                write_down(confirmed(first, look()))

    def _begin(self) -> None:
        if not _take_turn():
            return
        seen = look()
        if seen.findings:
            self._first, self._go_on_at = seen, time.monotonic() + between_looks()
        else:
            write_down(Account([], seen))


def _take_turn() -> bool:
    due = Q(accounted_at=None) | Q(
        accounted_at__lt=DatabaseNow() - seconds(conf.ACCOUNT_INTERVAL)
    )
    return bool(DispatcherState.objects.filter(due).update(accounted_at=DatabaseNow()))
