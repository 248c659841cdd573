"""Says where the wait of a task went: its time cut by what held its queue and type back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, Subquery

from .closures import moment_of, parts_of
from .models import DispatcherState, TaskAttempt, TaskEvent, TaskLog, WaitInterval
from .people import name_of
from .wording import duration

Scope = WaitInterval.Scope
#: A span of time.
Span = tuple[datetime, datetime]

#: Seconds; a shorter part of a wait is not worth a line.
LEAST = 0.1
#: Intervals and pauses that are read for one task.
MOST = 2000
#: What counts when several things held a task back at once: the first of these.
ORDER = (
    Scope.DISPATCHER,
    Scope.TYPE,
    Scope.QUEUE,
    Scope.BROKER,
    Scope.WORKER,
    Scope.LIMIT,
    Scope.POOL,
    # Kept while no slot is free, and nobody looks at rates.
    Scope.RATE,
)


@dataclass(frozen=True)
class Part:
    """A part of the wait of a task."""

    #: A word for programs: a scope of WaitInterval, "not_before", "paused", "sent", "line".
    code: str
    text: str
    seconds: float


@dataclass(frozen=True)
class Claim:
    """A time in which something held the task back."""

    code: str
    text: str
    begin: datetime
    end: datetime


def where_it_went(task: TaskLog, now: datetime) -> list[Part]:
    """Return the parts of the wait before the present attempt of ``task``, the longest first.

    They add up to the wait. Computed from the row's own times, its pauses, and the
    intervals in which its queue, its type or the dispatcher were held back; a time that
    nothing of these explains was spent in line. Empty while there was no wait.
    """
    began = _began(task)
    end = task.started_at or task.ended_at or now
    if not began < end:
        return []
    free: list[Span] = [(began, end)]
    seconds: dict[tuple[str, str], float] = {}
    for claim in _claims(task, began, end):
        taken, free = _cut(free, claim.begin, claim.end)
        key = (claim.code, claim.text)
        seconds[key] = seconds.get(key, 0.0) + taken
    seconds["line", _in_line(task)] = sum((b - a).total_seconds() for a, b in free)
    parts = [Part(*key, number) for key, number in seconds.items() if number >= LEAST]
    return sorted(parts, key=lambda part: -part.seconds)


def as_sentence(parts: Iterable[Part]) -> str:
    """Return "It waited 6 min: limit of its type 4 min, no free slot 2 min."."""
    parts = list(parts)
    whole = duration(sum(part.seconds for part in parts))
    told = ", ".join(f"{part.text} {duration(part.seconds)}" for part in parts)
    return f"It waited {whole}: {told}."


def _began(task: TaskLog) -> datetime:
    ended = TaskAttempt.objects.filter(task=task.pk, attempt__lt=max(task.attempt, 1) + 1)
    last = ended.order_by("-attempt").values_list("ended_at", flat=True).first()
    return last or task.created_at


def _in_line(task: TaskLog) -> str:
    return "the pause before the retry, and in line" if task.attempt > 1 else "in line"


def _claims(task: TaskLog, began: datetime, end: datetime) -> Iterator[Claim]:
    """Yield what held it back; of what was true at the same time, the first counts."""
    if task.run_at is not None:
        yield Claim("not_before", "not to run before its time", began, task.run_at)
    yield from _own_pauses(task, end)
    if task.queued_at is not None:
        yield Claim("sent", "promoted, until it began", task.queued_at, end)
    found = [*_intervals(task, began, end), *_open_now(task, end)]
    yield from sorted(found, key=lambda claim: ORDER.index(Scope(claim.code)))


def _own_pauses(task: TaskLog, end: datetime) -> Iterator[Claim]:
    kinds = (TaskEvent.Kind.PAUSED, TaskEvent.Kind.RESUMED)
    events = TaskEvent.objects.filter(task=task.pk, kind__in=kinds).order_by("id")
    since, text = task.created_at, "enqueued as paused"
    paused = False
    for number, event in enumerate(events[:MOST]):
        if event.kind == TaskEvent.Kind.PAUSED:
            since, text, paused = event.at, _paused("", event.actor_id, event.detail), True
        elif paused or not number:
            yield Claim("paused", text, since, event.at)
            paused = False
    if paused:
        yield Claim("paused", text, since, end)


def _scopes(task: TaskLog) -> list[tuple[str, str]]:
    return [
        (Scope.DISPATCHER, ""),
        (Scope.TYPE, task.method),
        (Scope.LIMIT, task.method),
        (Scope.RATE, task.method),
        (Scope.QUEUE, task.queue),
        (Scope.BROKER, ""),
        *((scope, key) for scope in (Scope.WORKER, Scope.POOL) for key in ("", task.queue)),
    ]


def _intervals(task: TaskLog, began: datetime, end: datetime) -> Iterator[Claim]:
    """Read those that ended within the wait, and of each scope the first that ended later.

    Of one scope no two overlap, so there is no other; however old the task is, nothing
    that came after it is read.
    """
    wanted = Q()
    for scope, key in _scopes(task):
        rows = WaitInterval.objects.filter(scope=scope, key=key)
        later = rows.filter(to_at__gt=end).order_by("to_at").values("pk")[:1]
        within = Q(to_at=None) | Q(to_at__gt=began, to_at__lte=end)
        wanted |= Q(within, scope=scope, key=key) | Q(pk=Subquery(later))
    rows = WaitInterval.objects.filter(wanted, from_at__lt=end).order_by("from_at")
    for row in rows[:MOST]:
        text = _text(row.scope, row.actor_id, row.reason)
        yield Claim(row.scope, text, row.from_at, row.to_at or end)


def _open_now(task: TaskLog, end: datetime) -> Iterator[Claim]:
    """Yield what the last pass found closed: it is stored when it is over."""
    rows = DispatcherState.objects.filter(pk=DispatcherState.THE_ONE)
    closed: Any = rows.values_list("closed", flat=True).first() or {}
    closed = json.loads(closed) if isinstance(closed, str) else closed
    mine = _scopes(task)
    for name, began in closed.items():
        scope, key = parts_of(name)
        if (scope, key) in mine:
            yield Claim(scope, _text(scope, None, ""), moment_of(began), end)


def _text(scope: str, actor: Any, reason: str) -> str:
    if scope in _PLAIN:
        return _PLAIN[scope]
    if scope == Scope.DISPATCHER:
        return _paused("dispatcher suspended", actor, reason)
    return _paused("type paused" if scope == Scope.TYPE else "queue paused", actor, reason)


_PLAIN: dict[str, str] = {
    Scope.BROKER: "broker not reachable",
    Scope.WORKER: "no worker for its queue",
    Scope.LIMIT: "limit of its type",
    Scope.RATE: "rate of its type",
    Scope.POOL: "no free slot",
}


def _paused(what: str, actor: Any, reason: str) -> str:
    told = f"{what or 'paused'} by {name_of(actor)}"
    return f"{told} ({reason})" if reason else told


def _cut(free: list[Span], begin: datetime, end: datetime) -> tuple[float, list[Span]]:
    """Return the seconds of ``free`` that lie between the two times, and what is left."""
    taken, left = 0.0, []
    for first, last in free:
        start, stop = max(first, begin), min(last, end)
        if start >= stop:
            left.append((first, last))
            continue
        taken += (stop - start).total_seconds()
        left += [span for span in ((first, start), (stop, last)) if span[0] < span[1]]
    return taken, left
