"""What a live page is told of a task and of a batch: read from the rows, never an argument."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from django.db import Error
from django.db.models import CharField, OuterRef, Subquery
from django.db.models.functions import Coalesce, Right

from ..batches import counts_of
from ..dialect import DatabaseNow
from ..models import TaskBatch, TaskLog
from ..progress import Said, said_of, seconds_left
from ..status import TERMINAL, Status
from ..text import last_line

logger = logging.getLogger("taskcontrol")

#: The version of what is sent.
VERSION = 1
#: Most characters of an error.
ERROR_MAX = 500
#: Keys in one statement.
PAGE = 500
#: Own tasks that are told without having been asked for by key, the newest.
MOST_OWN = 100
#: Tasks that could not be told, so that each is logged once and not every second.
_unreadable: set[int] = set()
_COLUMNS = (
    "pk",
    "job_name",
    "status",
    "rev",
    "attempt",
    "occupies",
    "retry_at",
    "batch_id",
    "created_by_id",
    "created_at",
    "queued_at",
    "started_at",
    "ended_at",
    "progress",
    "read_at",
    "error_tail",
)

#: What the news of a batch tell of the member that brought them.
_OF_A_MEMBER = ("name", "job_name", "status", "message", "error")


class State(NamedTuple):
    """One thing as it is now: who may see it, how to tell it from before, what is said."""

    key: str
    owner: int | None
    #: Grows with each change of a task; of a batch it only differs.
    mark: Any
    told: dict[str, Any]

    def with_news(self, member: State | None) -> State:
        """Return the state of a batch together with the member that brought the news."""
        told = {name: member.told[name] if member else None for name in _OF_A_MEMBER}
        return self._replace(told={**self.told, **told})

    def in_batch(self, batches: Mapping[str, State]) -> State:
        """Return the state of a task with the numbers of its batch, if that is among these."""
        batch = batches.get(self.told["batch_id"])
        if batch is None:
            return self
        return self._replace(told={**self.told, **_numbers(batch.told)})


def tasks_by_id(task_ids: Collection[int]) -> dict[int, State]:
    """Return the states of those tasks that exist, by their keys."""
    ids = sorted(task_ids)
    states: dict[int, State] = {}
    for start in range(0, len(ids), PAGE):
        states.update(_readable(ids[start : start + PAGE]))
    return states


def _readable(ids: list[int]) -> dict[int, State]:
    """Return the states of those that can be read: one bad row keeps no other from its news."""
    try:
        return _read(ids)
    except Error:
        raise  # the database's, not that of a row
    except Exception as error:  # noqa: BLE001 - a row written by hand may hold anything
        if len(ids) > 1:
            half = len(ids) // 2
            return {**_readable(ids[:half]), **_readable(ids[half:])}
        if ids[0] not in _unreadable:
            _unreadable.add(ids[0])
            logger.warning("Task %s cannot be told to live pages: %r", ids[0], error)
        return {}


def _read(ids: list[int]) -> dict[int, State]:
    rows = (
        TaskLog.objects.filter(pk__in=ids)
        .order_by()
        .annotate(
            read_at=DatabaseNow(),
            error_tail=Right("error_message", ERROR_MAX, output_field=CharField()),
        )
    )
    found = (dict(zip(_COLUMNS, row, strict=True)) for row in rows.values_list(*_COLUMNS))
    return {row["pk"]: _task(row) for row in found}


def _task(row: dict[str, Any]) -> State:
    failed = row["status"] == Status.FAILED
    stored = row["progress"] if isinstance(row["progress"], dict) else {}
    said = said_of(stored)
    told = {
        "v": VERSION,
        "name": str(row["pk"]),
        "job_name": row["job_name"],
        "status": row["status"],
        "ended": row["status"] in TERMINAL and row["retry_at"] is None,
        "stopping": bool(row["occupies"] and row["status"] in TERMINAL),
        "message": _message(said, stored),
        "error": last_line(row["error_tail"])[:ERROR_MAX] if failed else None,
        "rev": row["rev"],
        "attempt": row["attempt"],
        "created_at": _iso(row["created_at"]),
        "queued_at": _iso(row["queued_at"]),
        "started_at": _iso(row["started_at"]),
        "ended_at": _iso(row["ended_at"]),
        "retry_at": _iso(row["retry_at"]),
        "at": _iso(row["read_at"]),
        "progress": _progress(said, row) if stored else None,
        "batch_id": row["batch_id"],
        **_numbers({}),
    }
    return State(str(row["pk"]), row["created_by_id"], row["rev"], told)


def _numbers(batch: Mapping[str, Any]) -> dict[str, int | None]:
    return {name: batch.get(name) for name in ("batch_done", "batch_total")}


def _iso(time: Any) -> str | None:
    return time.isoformat() if time else None


def _message(said: Said, stored: dict[str, Any]) -> Any:
    """Return the last message as it was given: a text, or the structured progress."""
    fields = {
        name: getattr(said, name)
        for name in ("count", "total", "description")
        if name in stored
    }
    return {"progress": fields} if fields else said.message


def _progress(said: Said, row: dict[str, Any]) -> dict[str, Any] | None:
    if row["status"] != Status.STARTED:
        return None
    left = seconds_left(said, row["started_at"], row["read_at"])
    return {
        "count": said.count,
        "total": said.total,
        "description": said.text or None,
        "eta_s": None if left is None else round(left, 1),
    }


def newest_own(user_id: int | None) -> set[int]:
    """Return the keys of the newest tasks of somebody, ended ones too."""
    rows = TaskLog.objects.filter(created_by=user_id).order_by("-pk")
    return set(rows.values_list("pk", flat=True)[:MOST_OWN])


def batches_by_id(batch_ids: Collection[str]) -> dict[str, State]:
    """Return the states of those batches that exist, by their ids."""
    rows = list(TaskBatch.objects.filter(pk__in=list(batch_ids)))
    if not rows:
        return {}
    numbers = counts_of(rows)
    begun = [row.pk for row in rows if not numbers[row.pk]["done"]]
    revs = (
        _first_running(begun) if any(numbers[key][Status.STARTED] for key in begun) else {}
    )
    return {row.pk: _batch(row, numbers[row.pk], revs.get(row.pk)) for row in rows}


def _first_running(batch_ids: list[str]) -> dict[str | None, tuple[int, int]]:
    """Return the key and rev of the member of each that is told of before the first end."""
    rows = TaskLog.objects.filter(batch_id__in=batch_ids, status=Status.STARTED)
    found = rows.order_by("-pk").values_list("batch_id", "pk", "rev")
    return {batch_id: (key, rev) for batch_id, key, rev in found}


def _batch(row: TaskBatch, numbers: Any, running: tuple[int, int] | None) -> State:
    counted = {status: numbers[status] for status in Status.values}
    done, canceled = numbers["done"], numbers[Status.CANCELED]
    total = max(row.total, sum(counted.values()))
    told = {
        "v": VERSION,
        "batch_id": row.pk,
        "batch_done": done,
        "batch_total": total,
        "failed": done - numbers[Status.FINISHED] - canceled,
        "canceled": canceled,
        "statuses": counted,
        "ended": done >= total and (total > 0 or row.ended_at is not None),
        "title": row.title,
    }
    mark = (total, *counted.values(), done, running)
    return State(row.pk, row.created_by_id, mark, told)


def with_newest(batches: Mapping[str, State]) -> dict[str, State]:
    """Return batches with the news of a member: who ended last, or else one that runs."""
    members = TaskLog.objects.filter(batch_id=OuterRef("pk"))
    ended = members.filter(ended_at__isnull=False).order_by("-ended_at")
    running = members.filter(status=Status.STARTED).order_by("pk")
    newest = Coalesce(*(Subquery(rows.values("pk")[:1]) for rows in (ended, running)))
    rows = TaskBatch.objects.filter(pk__in=list(batches)).annotate(newest=newest)
    found = dict(rows.values_list("pk", "newest")) if batches else {}
    states = tasks_by_id([key for key in found.values() if key])
    return {
        key: state.with_news(states.get(found.get(key, 0)))
        for key, state in batches.items()
    }
