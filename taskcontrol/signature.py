"""The options of ``enqueue`` by name: which there are, and whether a call says anything by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .options import flag, optional

#: Tells "the caller said nothing" from "the caller said: nobody".
UNSAID: Any = object()

#: The options of ``enqueue``, which arguments given by keyword must not be mistaken for.
OPTIONS = frozenset(
    {
        "after",
        "arguments",
        "at_front",
        "at_front_when_starved",
        "atomic",
        "backoff",
        "batch_id",
        "batch_order",
        "call_whitelisted_function",
        "created_by",
        "deduplicate",
        "discard_on",
        "document_action",
        "document_name",
        "document_type",
        "enqueue_after_commit",
        "event",
        "expires",
        "is_async",
        "job_id",
        "job_name",
        "max_retries",
        "now",
        "on_duplicate",
        "on_failure",
        "on_success",
        "paused",
        "priority",
        "queue",
        "retry_delay",
        "retry_on",
        "run_at",
        "timeout",
        "track_job",
    }
)

#: The options that are True or False.
FLAGS = (
    "at_front",
    "at_front_when_starved",
    "call_whitelisted_function",
    "enqueue_after_commit",
    "is_async",
    "now",
    "paused",
    "track_job",
)

#: What an option holds that was not given, where that is not None.
DEFAULTS: dict[str, Any] = {
    **dict.fromkeys((*FLAGS, "deduplicate"), False),
    "created_by": UNSAID,
    "enqueue_after_commit": True,
    "is_async": True,
    "track_job": True,
}


def check_flags(options: Mapping[str, Any]) -> None:
    """Raise InvalidCall for a flag that is neither True nor False, nor None for not said."""
    for name in FLAGS:
        optional(flag, name, options.get(name))


def is_given(name: str, value: Any) -> bool:
    """Return whether an option's value says anything."""
    return value is not None and value is not DEFAULTS.get(name)


def said(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options among ``values`` that are not at their defaults."""
    return {
        name: value
        for name, value in values.items()
        if name in OPTIONS and value is not DEFAULTS.get(name)
    }
