"""Examines whether rows, messages and what workers hold fit together, and mends what does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from django.db.models import Count

from .. import lifecycle, rescue
from ..accounting import messages, sweep
from ..accounting.evidence import Facts, Finding as Amiss, Repair
from ..accounting.looks import account
from ..bell import request_dispatch
from ..dialect import DatabaseNow
from ..incidents import Kind, unresolved
from ..models import Incident, TaskEvent, TaskLog, seconds
from ..wording import counted, duration, listed
from .findings import Finding, Level

#: Seconds of repairs that are told.
LATELY = 86400.0
#: What the sweeps write of a task when they mend it.
REPAIRS = (
    TaskEvent.Kind.RESENT,
    TaskEvent.Kind.UNSENT,
    TaskEvent.Kind.RESCUED,
    TaskEvent.Kind.RETURNED,
)


def examine_account(*, repair: bool = False) -> Iterator[Finding]:
    """Yield what stands amiss when looked at twice; ``repair`` mends it now.

    What is found is written down as incidents, whoever finds it.
    """
    done = account()
    mended = {one: _mend(one) for one in done.standing} if repair else {}
    sweep.write_down(done)
    yield _summary(done.last.facts, len(done.standing))
    if done.last.facts.unread:
        yield Finding(Level.WARN, "Messages", done.last.facts.unread)
    for one in done.standing:
        yield _told(one, mended.get(one))
    yield from _refused_by_referee()
    yield from _repaired_lately()


def _summary(facts: Facts, amiss: int) -> Finding:
    places = sum(row.occupies for row in facts.rows.values())
    told = listed(
        [
            f"{counted(places, 'task')} sent or running",
            counted(len(facts.messages), "message"),
            counted(len(facts.holders), "body", "bodies"),
        ]
    )
    if amiss:
        return Finding(Level.WARN, "Account", f"{told}: {amiss:,} do not fit")
    return Finding(Level.OK, "Account", f"{told}: all fit together")


def _told(one: Amiss, mended: str | None) -> Finding:
    """``mended`` is what was done, empty if nothing could be, None if nobody asked for it."""
    subject = str(Kind(one.kind).label).capitalize()
    if mended:
        return Finding(Level.WARN, subject, one.text, mended)
    advice = f"By itself: {one.mended_by}."
    if mended is None and one.repair is not None:
        advice += " Now: manage.py taskcontrol doctor --account --repair"
    level = Level.WARN if one.kind == Kind.GHOST else Level.FAIL
    return Finding(level, subject, one.text, advice)


def _refused_by_referee() -> Iterator[Finding]:
    number = unresolved().filter(kind=Kind.ILLEGAL).count()
    if number:
        told = f"{counted(number, 'write')} against the rules; admin lists them under Incidents"
        yield Finding(Level.FAIL, "Referee", told)


def _repaired_lately() -> Iterator[Finding]:
    """Repairs are events of their tasks; what was refused is an incident that is over."""
    since = DatabaseNow() - seconds(LATELY)
    events = TaskEvent.objects.filter(at__gt=since, kind__in=REPAIRS).order_by()
    numbers = Counter(dict(events.values_list("kind").annotate(n=Count("pk"))))
    told = [f"{TaskEvent.Kind(kind).label} {n:,}" for kind, n in numbers.most_common()]
    over = Incident.objects.filter(last_at__gt=since, resolved_at__isnull=False).count()
    if over:
        told.append(f"incidents that are over {over:,}")
    text = listed(told) or "nothing was to be done"
    yield Finding(Level.OK, "Repairs", f"within {duration(LATELY)}: {text}")


# Repairs


def _mend(one: Amiss) -> str:
    """Do what can be done now; return what was done, empty for nothing."""
    return _REPAIRS[one.repair](one) if one.repair else ""


def _unsend(one: Amiss) -> str:
    attempt = (one.task_id, one.attempt)
    moved = lifecycle.unsend([attempt], detail="its message was lost")
    request_dispatch()
    return "Done: it is Pending again, and is sent anew." if moved else ""


def _rescue(one: Amiss) -> str:
    row = TaskLog.objects.filter(pk=one.task_id, attempt=one.attempt, occupies=True).first()
    if row is None or not rescue.rescue_from_worker(row):
        return ""
    return f"Done: it was taken from its {'worker' if row.worker_id else 'process'}."


def _remove(one: Amiss) -> str:
    gone = sum(messages.remove(message) for message in one.messages)
    return f"Done: {counted(gone, 'message')} removed." if gone else ""


def _stop(one: Amiss) -> str:
    sweep.tell_to_stop(one)
    return "Done: its worker is told to kill the process."


_REPAIRS: dict[Repair, Callable[[Amiss], str]] = {
    Repair.UNSEND: _unsend,
    Repair.RESCUE: _rescue,
    Repair.REMOVE: _remove,
    Repair.STOP: _stop,
}
