"""One call of ``enqueue``: its options and arguments, checked and ready to become a row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any

from celery import Task as CeleryTask

from . import context
from .arguments import encode, size_of
from .conf import conf, most_queued, queue_timeout
from .deduplication import wish_of
from .exceptions import ArgumentsTooLarge, InvalidCall
from .exclusion import key_of
from .glance import Glance
from .keys import Key, as_options
from .lanes import lane_of
from .models import TaskLog
from .offers import checked_path
from .options import (
    MOST_RETRIES,
    duration,
    known_queue,
    label,
    moment,
    place,
    priority as valid_priority,
    retries,
    whole_seconds,
)
from .policies import policies_of
from .registry import check_arguments, parameters_of
from .signature import OPTIONS, UNSAID, check_flags, is_given
from .status import Status
from .targets import target_of_call
from .tasktypes import defaults_of
from .text import clipped

Check = Callable[[str, Any], Any]

#: What is kept in columns of 140 and of 255 characters.
LABEL, KEY = label(140), label(255)


class Draft:
    """One call of ``enqueue``, checked and ready to become a row."""

    def __init__(
        self,
        method: Any,
        options: dict[str, Any],
        keywords: dict[str, Any],
        *,
        said: Collection[str] = OPTIONS,
        glance: Glance | None = None,
    ) -> None:
        """``said``: the options that come from the caller and not from us."""
        self.glance = glance or Glance()
        self.options = options
        check_flags(options)
        self.creator = creator_of(options.get("created_by", UNSAID))
        goal = target_of_call(method, options, self.creator)
        self.target, self.document = goal.function, goal.document
        self.method = KEY("method", goal.method)
        self.said = said
        self.defaults = defaults_of(self.method)
        self.wish = wish_of(options)
        self._check_arguments(keywords)
        self.values = self._resolve_values()

    @property
    def is_ready(self) -> bool:
        """Whether the dispatcher may take the row at once."""
        return self.values["status"] is Status.PENDING and not self.runs_here

    @property
    def runs_here(self) -> bool:
        """Whether the caller runs it himself, at once, and no dispatcher may see it wait."""
        return bool(self.options.get("now")) or self.options.get("is_async") is False

    @cached_property
    def callbacks(self) -> dict[str, str]:
        """What is called at its end: the paths by option."""
        return {
            name: checked_path(name, self.options[name])
            for name in ("on_success", "on_failure")
            if self.options.get(name) is not None
        }

    @property
    def _is_heard(self) -> bool:
        """Whether anybody is to be told of this task: its document, callbacks, Celery."""
        hears = self.document is not None and self.document.hears
        wanted = self.callbacks or self.defaults.get("store_celery_result")
        return hears or bool(wanted)

    @property
    def exclusive(self) -> Key | None:
        """The key that lets only one such action wait or run for its document, or None."""
        wanted = (
            self.document and self.document.action and self.defaults.get("one_per_document")
        )
        return key_of(self.document) if self.document and wanted else None

    @property
    def keys(self) -> list[Key]:
        """The keys that the task holds until it has ended."""
        return [key for key in (self.wish and self.wish.key, self.exclusive) if key]

    @property
    def may_be_refused(self) -> bool:
        """Whether what others have stored decides, which must not break a transaction."""
        limited = most_queued(self.values["queue"]) is not None
        joins = self.values["batch_id"] is not None
        return limited or joins or self.wish is not None or self.document is not None

    def row(self, **values: Any) -> TaskLog:
        """Return the unsaved row; ``values`` beat what the call says."""
        return TaskLog(**{**self.values, **values})

    def _check_arguments(self, keywords: dict[str, Any]) -> None:
        own = self.options.get("arguments")
        if not isinstance(own, Mapping | None):
            raise InvalidCall(f"arguments must be a dict of names and values, not {own!r}.")
        _refuse_other_names({**keywords, **(own or {})})
        self._refuse_mistaken_names(self.target, keywords)
        given = {**keywords, **(own or {})}
        check_arguments(self.method, self.target, given)
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
            if name != "arguments" and name in self.said and is_given(name, value)
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
        """Return the columns of the row: one function for each group of options."""
        queue = self._chosen(known_queue, "queue", "default")
        return {
            **self._work(),
            **self._place(queue),
            **self._limits(queue),
            **self._identity(),
            "options": self._policies(),
        }

    def _work(self) -> dict[str, Any]:
        """Return what is to be done."""
        return {
            "method": self.method,
            "job_name": clipped(str(self.options.get("job_name") or self.method), 300),
            "arguments": self.arguments,
            "call_whitelisted_function": bool(
                self.options.get("call_whitelisted_function")
            ),
            "heard": self._is_heard,
            **(self.document.columns if self.document else {}),
        }

    def _place(self, queue: str) -> dict[str, Any]:
        """Return where and when it stands in which line."""
        priority = self._own(valid_priority, "priority")
        lane = lane_of(queue, self.method, priority)
        paused, run_at = bool(self.options.get("paused")), self._own(moment, "run_at")
        after = self._own(lambda _name, task: self.glance.predecessor(task), "after")
        self._refuse_to_wait()
        held = paused or self.runs_here or run_at is not None or after is not None
        return {
            "queue": queue,
            "at_front": self._goes_first(queue),
            "priority": priority,
            "lane": lane,
            "ready_lane": None if held else lane,
            "status": Status.PAUSED if paused else Status.PENDING,
            "run_at": run_at,
            "after_id": after,
            "expires_at": self._own(moment, "expires"),
        }

    def _refuse_to_wait(self) -> None:
        for name in ("paused", "run_at", "after", "expires"):
            if self.runs_here and is_given(name, self.options.get(name)):
                raise InvalidCall(
                    f"now=True runs {self.method} at once: it cannot be combined with {name}=."
                )

    def _goes_first(self, queue: str) -> bool:
        if self.options.get("at_front"):
            return True
        wanted = self.options.get("at_front_when_starved")
        return bool(wanted) and self.glance.is_starved(queue)

    def _limits(self, queue: str) -> dict[str, Any]:
        """Return how long it may run and how often it is retried."""
        return {
            "timeout": self._chosen(whole_seconds, "timeout", queue_timeout(queue)),
            "max_retries": self._chosen(retries, "max_retries", self.celerys_retries),
            "retry_delay": self._chosen(duration, "retry_delay"),
        }

    def _identity(self) -> dict[str, Any]:
        """Return whose it is, what it belongs to and the names it is found by."""
        return {
            "batch_id": self._own(LABEL, "batch_id") or None,
            "batch_order": self._own(place, "batch_order") or 0,
            "job_id": self._job_id,
            "event": self._own(LABEL, "event") or "",
            "created_by_id": getattr(self.creator, "pk", None),
            "parent_id": around.id if (around := context.current_task()) else None,
        }

    def _chosen(self, check: Check, name: str, otherwise: Any = None) -> Any:
        """Return what the call says, or else the type, or else ``otherwise``."""
        value = self.options.get(name)
        if value is None:
            value = self.defaults.get(name, otherwise)
        return None if value is None else check(name, value)

    def _own(self, check: Check, name: str) -> Any:
        """Return what the call says."""
        value = self.options.get(name)
        return None if value is None else check(name, value)

    @property
    def _job_id(self) -> str | None:
        """What it can be found by: its own label, or else its key."""
        own: str | None = self._own(KEY, "job_id") or None
        return own or (self.wish.key.text if self.wish else None)

    @property
    def celerys_retries(self) -> int:
        """How often a Celery task may ask to be retried, when nothing else says."""
        if not isinstance(self.target, CeleryTask):
            return 0
        limit = self.target.max_retries
        return MOST_RETRIES if limit is None else min(limit, MOST_RETRIES)

    def _policies(self) -> dict[str, Any]:
        """Return what no query filters by."""
        return {
            **as_options(self.keys),
            **(self.document.policies if self.document else {}),
            **policies_of(self.target, self._chosen),
            **self.callbacks,
            **({"anonymous": True} if is_anonymous(self.creator) else {}),
        }


def _refuse_other_names(given: Mapping[Any, Any]) -> None:
    for name in given:
        if not isinstance(name, str):
            raise InvalidCall(f"The name of an argument is a text, not {name!r}.")


def is_anonymous(creator: Any) -> bool:
    """Return whether it is a user who is not known, which is not the system."""
    return creator is not None and creator.pk is None


def creator_of(given: Any) -> Any:
    """Return the user as whom a task runs, who may be anonymous; None for the system."""
    user = context.current_user() if given is UNSAID else given
    if user is None:
        return None
    if getattr(user, "is_anonymous", False):
        return context.nobody()
    if getattr(user, "pk", None) is None:
        raise InvalidCall(f"created_by must be a saved user or None, not {user!r}.")
    return user
