"""Writes one or many Pending tasks in the caller's transaction, after checking the call."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from celery import Task as CeleryTask
from django.db import transaction
from django.utils import timezone

from . import batches, context
from .arguments import encode, size_of
from .bell import request_dispatch
from .conf import conf, known_queues, queue_timeout
from .dialect import DatabaseNow, microseconds_now
from .exceptions import (
    ArgumentsTooLarge,
    InvalidCall,
    MethodNotCallable,
    MethodNotFound,
    UnknownQueue,
)
from .lanes import lane_of
from .models import TaskLog
from .registry import check_arguments, parameters_of, path_of, resolve
from .status import Status
from .tasktypes import defaults_of

#: Tells "the caller said nothing" from "the caller said: nobody".
UNSAID: Any = object()

#: The options of ``enqueue``, which arguments given by keyword must not be mistaken for.
OPTIONS = frozenset(
    {
        "arguments",
        "at_front",
        "batch_id",
        "batch_order",
        "created_by",
        "event",
        "expires",
        "job_id",
        "job_name",
        "max_retries",
        "paused",
        "priority",
        "queue",
        "retry_delay",
        "run_at",
        "timeout",
    }
)
#: Rows that one INSERT of ``bulk_enqueue`` writes.
CHUNK = 1000
MOST_RETRIES = 32767
PRIORITIES = range(-1000, 1001)


def enqueue(  # noqa: PLR0913 - the options that the documents promise
    method: str | Callable[..., Any] | None = None,
    *,
    queue: str | None = None,
    timeout: int | None = None,
    job_name: str | None = None,
    max_retries: int | None = None,
    retry_delay: float | dt.timedelta | None = None,
    at_front: bool = False,
    batch_id: str | None = None,
    batch_order: int | None = None,
    paused: bool = False,
    run_at: dt.datetime | dt.timedelta | None = None,
    priority: int | None = None,
    job_id: str | None = None,
    event: str | None = None,
    created_by: Any = UNSAID,
    expires: dt.datetime | dt.timedelta | None = None,
    arguments: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> TaskLog:
    """Store a task and return its row; it runs after the commit, as soon as it may.

    The row is inserted in the caller's transaction: a rollback leaves nothing, and the
    broker may be down. ``method`` is a function, a Celery task or a dotted path.

    ``queue``: one of ``TASKCONTROL["QUEUES"]`` or short, default, long. ``timeout``: seconds
    the body may run. ``max_retries``: automatic retries after a failure; ``retry_delay``:
    seconds (or a timedelta) from the failure to the retry, None = at the next pass. None of
    these takes the value of the task's type, then of its queue.

    ``priority``: higher first, None = the type's. ``at_front``: before all others of its
    queue. ``run_at``: not before this time (a timedelta counts from now). ``expires``: not
    to be started after it. ``paused``: held back until resumed. ``job_name``: a label,
    default the method. ``event``: a label to filter by. ``batch_id``, ``batch_order``: the
    batch that it belongs to, and its place there. ``job_id``: your own name for it.
    ``created_by``: the user it runs as; default the request's user or the enqueuing task's.

    What the function takes is given by keyword, or in ``arguments=`` (which wins), where a
    name may equal one of the options above.

    Raises a ValueError (``InvalidCall``) with a sentence for everything that cannot run:
    no such method, arguments that do not fit, cannot be stored or are too large, an unknown
    queue; PermissionError when nothing allows the method to run.
    """
    given = {name: value for name, value in locals().items() if name in OPTIONS}
    draft = _Draft(method, given, kwargs)
    with transaction.atomic(using=conf.DATABASE, savepoint=False):
        if batch_id is not None:
            batches.grow(batch_id, 1, created_by=draft.creator)
        row = draft.row()
        row.save(force_insert=True, using=conf.DATABASE)
        _read_back_times(row)
        if draft.is_ready:
            request_dispatch()
    return row


def bulk_enqueue(
    tasks: Iterable[Mapping[str, Any]], batch_id: str | None = None, **shared: Any
) -> str:
    """Store many tasks as one batch in one transaction with one bell; return the batch id.

    ``tasks`` yields dicts of what ``enqueue`` takes (``method``, options, arguments);
    a generator is read in chunks. ``shared`` holds for every task; a task's own keys beat
    it. ``batch_order`` counts from 0 unless a task says otherwise. If one task is refused,
    nothing is stored, and the error names its place.
    """
    batch_id = batch_id or str(uuid.uuid4())
    count = 0
    with transaction.atomic(using=conf.DATABASE):
        together = {"position": microseconds_now(conf.DATABASE)}
        for chunk in _chunks(_drafts(tasks, batch_id, shared)):
            TaskLog.objects.bulk_create([draft.row(**together) for draft in chunk])
            count += len(chunk)
        batches.grow(batch_id, count, created_by=_creator(shared.get("created_by", UNSAID)))
        request_dispatch()
    return batch_id


def _drafts(
    tasks: Iterable[Mapping[str, Any]], batch_id: str, shared: Mapping[str, Any]
) -> Iterator[_Draft]:
    for number, own in enumerate(tasks):
        given = {"batch_order": number, **shared, **own, "batch_id": batch_id}
        method = given.pop("method", None)
        options = {name: given.pop(name) for name in OPTIONS & given.keys()}
        try:
            yield _Draft(method, options, given)
        except Exception as error:
            error.add_note(f"This was task {number} of bulk_enqueue; nothing was stored.")
            raise


def _chunks(drafts: Iterator[_Draft]) -> Iterator[list[_Draft]]:
    while chunk := list(itertools.islice(drafts, CHUNK)):
        yield chunk


class _Draft:
    """One call of ``enqueue``, checked and ready to become a row."""

    def __init__(
        self, method: Any, options: dict[str, Any], keywords: dict[str, Any]
    ) -> None:
        if method is None:
            raise InvalidCall("enqueue() needs a method: a function or its dotted path.")
        self.options = options
        self.creator = _creator(options.get("created_by", UNSAID))
        self.method = path_of(method)
        self._check_target(keywords)
        self.values = self._resolve_values()

    @property
    def is_ready(self) -> bool:
        """Whether the dispatcher may take the row at once."""
        return self.values["status"] is Status.PENDING

    def row(self, **values: Any) -> TaskLog:
        """Return the unsaved row."""
        return TaskLog(**self.values, **values)

    def _check_target(self, keywords: dict[str, Any]) -> None:
        try:
            self.target = target = resolve(self.method)
        except MethodNotFound as error:
            raise MethodNotCallable(self.method, str(error)) from error
        own = self.options.get("arguments") or {}
        self._refuse_mistaken_names(target, keywords)
        given = {**keywords, **own}
        check_arguments(self.method, target, given)
        self.arguments = encode(given)
        size = size_of(self.arguments)
        if size > conf.ARGUMENTS_MAX_BYTES:
            raise ArgumentsTooLarge(self.method, size, conf.ARGUMENTS_MAX_BYTES)

    def _refuse_mistaken_names(self, target: Any, keywords: dict[str, Any]) -> None:
        ours = [name for name in keywords if name.startswith("tc_")]
        if ours:
            raise InvalidCall(
                f"Argument {ours[0]!r}: names that begin with tc_ are reserved."
            )
        meant = {
            name
            for name, value in self.options.items()
            if name != "arguments" and value not in (None, False, UNSAID)
        }
        # In a batch these are given by us, not by the caller.
        meant -= {"batch_id", "batch_order"}
        mistaken = sorted(meant & parameters_of(target))
        if mistaken:
            name = mistaken[0]
            raise InvalidCall(
                f"{self.method} has a parameter {name!r}, which is also an option of "
                f"enqueue(). Write arguments={{{name!r}: ...}} for the parameter; give the "
                "option to the task's type, or rename the parameter, to have both."
            )

    def _resolve_values(self) -> dict[str, Any]:
        options, defaults = self.options, defaults_of(self.method)

        def choose(name: str, otherwise: Any) -> Any:
            value = options.get(name)
            return defaults.get(name, otherwise) if value is None else value

        queue = _known_queue(choose("queue", "default"))
        priority = options.get("priority")
        lane = lane_of(queue, self.method, _valid_priority(priority))
        paused, run_at = bool(options.get("paused")), options.get("run_at")
        return {
            "method": self.method,
            "job_name": str(options.get("job_name") or self.method)[:300],
            "arguments": self.arguments,
            "queue": queue,
            "timeout": _positive("timeout", choose("timeout", queue_timeout(queue))),
            "max_retries": _count(
                "max_retries", choose("max_retries", self.celerys_retries)
            ),
            "retry_delay": _seconds("retry_delay", choose("retry_delay", None)),
            "at_front": bool(options.get("at_front")),
            "priority": priority,
            "lane": lane,
            "ready_lane": None if paused or run_at is not None else lane,
            "status": Status.PAUSED if paused else Status.PENDING,
            "run_at": _moment("run_at", run_at),
            "expires_at": _moment("expires", options.get("expires")),
            "batch_id": _label("batch_id", options.get("batch_id"), 140),
            "batch_order": options.get("batch_order"),
            "job_id": _label("job_id", options.get("job_id"), 255),
            "event": _label("event", options.get("event"), 140) or "",
            "created_by_id": getattr(self.creator, "pk", None),
            "options": self._policies(choose),
        }

    @property
    def celerys_retries(self) -> int:
        """How often a Celery task may ask to be retried, when nothing else says."""
        if not isinstance(self.target, CeleryTask):
            return 0
        limit = self.target.max_retries
        return MOST_RETRIES if limit is None else min(limit, MOST_RETRIES)

    def _policies(self, choose: Callable[[str, Any], Any]) -> dict[str, Any]:
        policies = {}
        if isinstance(self.target, CeleryTask) and choose("max_retries", None) is None:
            # Celery retries a task that asks, not one that merely fails.
            policies["retry_when_asked"] = True
        return policies


def _read_back_times(row: TaskLog) -> None:
    """A time that the database computed is read, so that the row is as stored."""
    computed = [
        name for name in ("run_at", "expires_at") if hasattr(getattr(row, name), "as_sql")
    ]
    if computed:
        row.refresh_from_db(fields=computed)


def _creator(given: Any) -> Any:
    user = context.current_user() if given is UNSAID else given
    if user is None or getattr(user, "is_anonymous", False):
        return None
    if getattr(user, "pk", None) is None:
        raise InvalidCall(f"created_by must be a saved user or None, not {user!r}.")
    return user


def _known_queue(queue: Any) -> str:
    if queue not in known_queues():
        raise UnknownQueue(queue, known_queues())
    return str(queue)


def _positive(name: str, value: Any) -> int:
    if isinstance(value, dt.timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 1:
        raise InvalidCall(f"{name} must be at least 1 second, not {value!r}.")
    return round(value)


def _count(name: str, value: Any) -> int:
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not 0 <= value <= MOST_RETRIES
    ):
        raise InvalidCall(
            f"{name} must be a whole number from 0 to {MOST_RETRIES}, not {value!r}."
        )
    return value


def _seconds(name: str, value: Any) -> float | None:
    if isinstance(value, dt.timedelta):
        value = value.total_seconds()
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value < 1e9
    ):
        raise InvalidCall(
            f"{name} must be seconds or a timedelta, not negative: {value!r}."
        )
    return float(value)


def _valid_priority(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value not in PRIORITIES:
        raise InvalidCall(
            f"priority must be a whole number from {PRIORITIES[0]} to {PRIORITIES[-1]} "
            f"(higher goes first), not {value!r}."
        )
    return value


def _moment(name: str, value: Any) -> Any:
    """Return a time to store; a duration counts from the database's now."""
    if value is None:
        return None
    if isinstance(value, dt.timedelta):
        return DatabaseNow() + value
    if not isinstance(value, dt.datetime):
        raise InvalidCall(f"{name} must be a datetime or a timedelta, not {value!r}.")
    if timezone.is_naive(value):
        raise InvalidCall(
            f"{name}={value!r} has no time zone; use django.utils.timezone.now() + ... or "
            "timezone.make_aware()."
        )
    return value


def _label(name: str, value: Any, longest: int) -> str | None:
    if value is None or value == "":
        return None
    text = str(value)
    if len(text) > longest:
        raise InvalidCall(f"{name} is {len(text)} characters long; at most {longest} fit.")
    return text
