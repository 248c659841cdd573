"""What calls of ``enqueue`` that say the same have in common: checked once, then filled in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

from celery import Task as CeleryTask
from django.conf import settings
from django.db.models.base import ModelState
from django.db.models.signals import post_init, pre_init

from . import registry
from .conf import conf, most_queued, queue_timeout
from .exceptions import InvalidCall
from .glance import Glance
from .lanes import lane_of
from .models import TaskLog
from .offers import checked_path
from .options import (
    MOST_RETRIES,
    duration,
    known_queue,
    label,
    moment,
    priority as valid_priority,
    retries,
    whole_seconds,
)
from .policies import policies_of
from .registry import check_arguments, parameters_of
from .signature import OPTIONS, check_flags, is_given
from .status import Status
from .targets import target_of_call
from .tasktypes import defaults_of, known_types
from .text import clipped

Check = Callable[[str, Any], Any]

#: What is kept in columns of 140 and of 255 characters.
LABEL, KEY = label(140), label(255)
#: Options of which each call may say something else, and have the same form.
OWN = frozenset(
    {
        "arguments",
        "batch_id",
        "batch_order",
        "created_by",
        "event",
        "job_id",
        "job_name",
    }
)
#: Options that are looked at in each call: they name rows, rights or times.
LOOKED_AT = frozenset(
    {
        "after",
        "at_front_when_starved",
        "call_whitelisted_function",
        "document_action",
        "document_name",
        "document_type",
        "expires",
        "run_at",
    }
)
#: Forms that a process remembers, and sets of names that each of them does.
MOST_FORMS, MOST_NAMES = 1000, 100

_forms: dict[Any, Form] = {}


def form_of(method: Any, options: Mapping[str, Any], creator: Any, glance: Glance) -> Form:
    """Return the form of a call, one that is remembered if nothing has changed since."""
    key = _key_of(method, options)
    if key is None:
        return Form(method, options, creator, glance)
    form = _forms.get(key)
    if form is None or not form.is_fresh:
        form = Form(method, options, creator, glance)
        if len(_forms) >= MOST_FORMS:
            _forms.clear()
        _forms[key] = form
    return form


def _key_of(method: Any, options: Mapping[str, Any]) -> Any:
    """Return what tells forms apart; None where a call has its own."""
    key = [method]
    for name, value in options.items():
        if name not in OWN and is_given(name, value):
            if name in LOOKED_AT:
                return None
            key += (name, type(value), value)
    return _hashable(tuple(key))


def _hashable(key: Any) -> Any:
    try:
        hash(key)
    except TypeError:  # a tuple that holds a list
        return None
    return key


class Form:
    """The columns of a task as far as its method and its options decide them."""

    def __init__(
        self, method: Any, options: Mapping[str, Any], creator: Any, glance: Glance
    ) -> None:
        self.options = {name: options[name] for name in options.keys() - OWN}
        self._glance, self._names = glance, set[tuple[Any, ...]]()
        self._types, self._settings = known_types(), _settings()
        check_flags(self.options)
        goal = target_of_call(method, self.options, creator)
        self.target, self.document = goal.function, goal.document
        self.method = KEY("method", goal.method)
        self.defaults = defaults_of(self.method)
        self._declared = registry.declarations.get(self.method)

    @property
    def is_fresh(self) -> bool:
        """Whether types, settings and declarations are those that it was made from."""
        return (
            self._types is known_types()
            and self._settings is _settings()
            and self._declared is registry.declarations.get(self.method)
        )

    @property
    def runs_here(self) -> bool:
        """Whether the caller runs it himself, at once, and no dispatcher may see it wait."""
        return bool(self.options.get("now")) or self.options.get("is_async") is False

    @cached_property
    def is_limited(self) -> bool:
        """Whether only so many tasks may wait in its queue."""
        return most_queued(self.values["queue"]) is not None

    @cached_property
    def most_bytes(self) -> int:
        """How many bytes of JSON its arguments may take."""
        return int(conf.ARGUMENTS_MAX_BYTES)

    @cached_property
    def callbacks(self) -> dict[str, str]:
        """What is called at its end: the paths by option."""
        return {
            name: checked_path(name, self.options[name])
            for name in ("on_success", "on_failure")
            if self.options.get(name) is not None
        }

    @cached_property
    def values(self) -> dict[str, Any]:
        """The columns: one function for each group of options."""
        queue = self._chosen(known_queue, "queue", "default")
        return {**self._work(), **self._place(queue), **self._limits(queue)}

    @cached_property
    def policies(self) -> dict[str, Any]:
        """What no query filters by."""
        return {
            **(self.document.policies if self.document else {}),
            **policies_of(self.target, self._chosen),
            **self.callbacks,
        }

    def row(self, own: Mapping[str, Any]) -> TaskLog:
        """Return an unsaved row with the columns ``own`` beside those of the form."""
        if any(
            one.receivers and one.has_listeners(TaskLog) for one in (pre_init, post_init)
        ):
            return TaskLog(**{**self.values, **own})
        row = TaskLog.__new__(TaskLog)
        row.__dict__.update(self._blank, _state=ModelState(), **own)
        return row

    @cached_property
    def _blank(self) -> dict[str, Any]:
        return TaskLog(**self.values).__dict__

    def check_names(
        self,
        given: Mapping[Any, Any],
        keywords: Mapping[str, Any],
        options: Mapping[str, Any],
        said: Collection[str],
    ) -> None:
        """Raise InvalidCall unless arguments of these names fit.

        ``keywords``: those of ``given`` that stood beside the options; ``said``: the names
        of the options that come from the caller and not from us.
        """
        names = (*given, None, *keywords)
        if names in self._names and not self._ambiguous:
            return
        _refuse_other_names(given)
        _refuse_our_names(keywords)
        self._refuse_mistaken_names(
            name
            for name, value in options.items()
            if name in said and is_given(name, value)
        )
        check_arguments(self.method, self.target, dict(given))
        if len(self._names) < MOST_NAMES:
            self._names.add(names)

    @cached_property
    def _ambiguous(self) -> frozenset[str]:
        return parameters_of(self.target) & OPTIONS - {"arguments"}

    def _refuse_mistaken_names(self, meant: Iterable[str]) -> None:
        mistaken = sorted(self._ambiguous.intersection(meant))
        if mistaken:
            name = mistaken[0]
            raise InvalidCall(
                f"{self.method} has a parameter {name!r}, which is also an option of "
                f"enqueue(). Write arguments={{{name!r}: ...}} for the parameter; give the "
                "option to the task's type, or rename the parameter, to have both."
            )

    def _work(self) -> dict[str, Any]:
        """Return what is to be done."""
        return {
            "method": self.method,
            "job_name": clipped(self.method, 300),
            "call_whitelisted_function": bool(
                self.options.get("call_whitelisted_function")
            ),
            "heard": self._is_heard,
            **(self.document.columns if self.document else {}),
        }

    @property
    def _is_heard(self) -> bool:
        """Whether anybody is to be told of this task: its document, callbacks, Celery."""
        hears = self.document is not None and self.document.hears
        wanted = self.callbacks or self.defaults.get("store_celery_result")
        return hears or bool(wanted)

    def _place(self, queue: str) -> dict[str, Any]:
        """Return where and when it stands in which line."""
        priority = self._own(valid_priority, "priority")
        lane = lane_of(queue, self.method, priority)
        paused, run_at = bool(self.options.get("paused")), self._own(moment, "run_at")
        after = self._own(lambda _name, task: self._glance.predecessor(task), "after")
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
        return bool(wanted) and self._glance.is_starved(queue)

    def _limits(self, queue: str) -> dict[str, Any]:
        """Return how long it may run and how often it is retried."""
        return {
            "timeout": self._chosen(whole_seconds, "timeout", queue_timeout(queue)),
            "max_retries": self._chosen(retries, "max_retries", self._celerys_retries),
            "retry_delay": self._chosen(duration, "retry_delay"),
        }

    @property
    def _celerys_retries(self) -> int:
        """How often a Celery task may ask to be retried, when nothing else says."""
        if not isinstance(self.target, CeleryTask):
            return 0
        limit = self.target.max_retries
        return MOST_RETRIES if limit is None else min(limit, MOST_RETRIES)

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


def _settings() -> Any:
    return getattr(settings, "TASKCONTROL", None)


def _refuse_other_names(given: Mapping[Any, Any]) -> None:
    for name in given:
        if not isinstance(name, str):
            raise InvalidCall(f"The name of an argument is a text, not {name!r}.")


def _refuse_our_names(keywords: Mapping[str, Any]) -> None:
    ours = [name for name in keywords if name.startswith("tc_")]
    if ours:
        raise InvalidCall(f"Argument {ours[0]!r}: names that begin with tc_ are reserved.")
