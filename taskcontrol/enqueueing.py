"""Writes one or many Pending tasks in the caller's transaction, after checking the call."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from celery import Task as CeleryTask
from django.db import transaction

from . import batches, context
from .arguments import encode, size_of
from .bell import request_dispatch
from .conf import conf, queue_timeout
from .dialect import microseconds_now
from .exceptions import (
    ArgumentsTooLarge,
    InvalidCall,
    MethodNotCallable,
    MethodNotFound,
)
from .lanes import lane_of
from .models import TaskLog
from .options import (
    MOST_RETRIES,
    duration,
    known_queue,
    label,
    moment,
    optional,
    place,
    priority as valid_priority,
    retries,
    whole_seconds,
)
from .registry import check_arguments, parameters_of, path_of, resolve
from .status import Status
from .tasktypes import defaults_of
from .text import clipped

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
        try:
            yield _member(own, shared, {"batch_id": batch_id, "batch_order": number})
        except Exception as error:
            error.add_note(f"This was task {number} of bulk_enqueue; nothing was stored.")
            raise


def _member(
    own: Mapping[str, Any], shared: Mapping[str, Any], place: Mapping[str, Any]
) -> _Draft:
    if not isinstance(own, Mapping):
        raise InvalidCall(f"A task is a dict of what enqueue() takes, not {own!r}.")
    given = {**place, **shared, **own, "batch_id": place["batch_id"]}
    method = given.pop("method", None)
    options = {name: given.pop(name) for name in OPTIONS & given.keys()}
    return _Draft(method, options, given, said={*shared, *own})


def _chunks(drafts: Iterator[_Draft]) -> Iterator[list[_Draft]]:
    while chunk := list(itertools.islice(drafts, CHUNK)):
        yield chunk


class _Draft:
    """One call of ``enqueue``, checked and ready to become a row."""

    def __init__(
        self,
        method: Any,
        options: dict[str, Any],
        keywords: dict[str, Any],
        *,
        said: Collection[str] = OPTIONS,
    ) -> None:
        """``said``: the options that come from the caller and not from us."""
        if method is None:
            raise InvalidCall("enqueue() needs a method: a function or its dotted path.")
        self.options = options
        self.creator = _creator(options.get("created_by", UNSAID))
        self.method = label(255)("method", path_of(method))
        self.said = said
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
            raise MethodNotCallable(self.method, f"{error.why}.") from error
        own = self.options.get("arguments") or {}
        if not isinstance(own, Mapping):
            raise InvalidCall(f"arguments must be a dict of names and values, not {own!r}.")
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
            if name != "arguments"
            and name in self.said
            and not any(value is unsaid for unsaid in (None, False, UNSAID))
        }
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

        def check(kind: Callable[[str, Any], Any], name: str, otherwise: Any = None) -> Any:
            return optional(kind, name, choose(name, otherwise))

        def own(kind: Callable[[str, Any], Any], name: str) -> Any:
            return optional(kind, name, options.get(name))

        queue = check(known_queue, "queue", "default")
        priority = own(valid_priority, "priority")
        lane = lane_of(queue, self.method, priority)
        paused, run_at = bool(options.get("paused")), own(moment, "run_at")
        return {
            "method": self.method,
            "job_name": clipped(str(options.get("job_name") or self.method), 300),
            "arguments": self.arguments,
            "queue": queue,
            "timeout": check(whole_seconds, "timeout", queue_timeout(queue)),
            "max_retries": check(retries, "max_retries", self.celerys_retries),
            "retry_delay": check(duration, "retry_delay"),
            "at_front": bool(options.get("at_front")),
            "priority": priority,
            "lane": lane,
            "ready_lane": None if paused or run_at is not None else lane,
            "status": Status.PAUSED if paused else Status.PENDING,
            "run_at": run_at,
            "expires_at": own(moment, "expires"),
            "batch_id": own(label(140), "batch_id"),
            "batch_order": own(place, "batch_order") or 0,
            "job_id": own(label(255), "job_id") or None,
            "event": own(label(140), "event") or "",
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
