"""What was found amiss with tasks, messages and workers: one row each, until it is over."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F

from .conf import conf
from .dialect import DatabaseNow
from .models import Incident
from .text import clipped

Kind = Incident.Kind


def report(
    kind: Incident.Kind,
    found: str,
    *,
    task_id: int = 0,
    attempt: int = 0,
    key: str = "",
    worker: int | None = None,
    repair: str = "",
    over: bool = False,
) -> None:
    """Write down what was found; the same again counts on in the row that there is.

    ``repair`` is what mends it. ``over``: it is mended already, so nobody need look.
    """
    same = Incident.objects.filter(kind=kind, task_id=task_id, attempt=attempt, key=key)
    told = {
        "found": clipped(found, 500),
        "repair": clipped(repair, 300),
        "worker_id": worker,
    }
    again: dict[str, Any] = {"count": F("count") + 1, "last_at": DatabaseNow()}
    again["resolved_at"] = DatabaseNow() if over else None
    if same.update(**told, **again):
        return
    new = Incident(kind=kind, task_id=task_id, attempt=attempt, key=key, **told)
    try:
        with transaction.atomic(using=conf.DATABASE):
            new.save(force_insert=True)
    except IntegrityError:  # somebody reports the same in this moment
        same.update(**told, **again)
    else:
        if over:
            same.update(resolved_at=DatabaseNow())


def unresolved() -> Any:
    """Return the incidents that are not over."""
    return Incident.objects.filter(resolved_at=None)


def resolve(ids: list[int], *, repair: str) -> int:
    """Note that these are over, and what ended them; return how many were not yet."""
    rows = unresolved().filter(pk__in=ids)
    return int(rows.update(resolved_at=DatabaseNow(), repair=clipped(repair, 300)))
