"""One call of ``enqueue``: its options and arguments, checked and ready to become a row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from celery import Task as CeleryTask

from . import context
from .arguments import encode, size_of
from .conf import conf, queue_timeout
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


class Draft:
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
        self.creator = creator_of(options.get("created_by", UNSAID))
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


def creator_of(given: Any) -> Any:
    """Return the user as whom a task runs; None for the system."""
    user = context.current_user() if given is UNSAID else given
    if user is None or getattr(user, "is_anonymous", False):
        return None
    if getattr(user, "pk", None) is None:
        raise InvalidCall(f"created_by must be a saved user or None, not {user!r}.")
    return user
