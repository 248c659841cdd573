"""What a task does when it fails, and in how many transactions: kept in its ``options``."""

from __future__ import annotations

from typing import Any, Protocol

from celery import Task as CeleryTask
from django.db import connections

from .conf import conf
from .exceptions import InvalidCall
from .options import Check, backoff, error_classes, flag, retries


class Chosen(Protocol):
    """Gives what the call says of an option, or else the type, checked."""

    def __call__(self, check: Check, name: str, otherwise: Any = None) -> Any:
        """Return the value, ``otherwise`` if nobody says."""


def policies_of(target: Any, chosen: Chosen) -> dict[str, Any]:
    """Return the policies of a call for ``target``; what is as usual is left out."""
    retry_on = chosen(error_classes, "retry_on")
    asks = isinstance(target, CeleryTask) and chosen(retries, "max_retries") is None
    wanted = {
        "retry_on": retry_on,
        "discard_on": chosen(error_classes, "discard_on") or None,
        "backoff": chosen(backoff, "backoff") or None,
        "atomic": _atomic(chosen) or None,
        # Celery retries a task that asks, not one that merely fails.
        "retry_when_asked": (asks and retry_on is None) or None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _atomic(chosen: Chosen) -> bool:
    wanted = bool(chosen(flag, "atomic", conf.ATOMIC))
    if wanted and connections[conf.DATABASE].vendor == "sqlite":
        raise InvalidCall(
            "atomic=True is refused on SQLite: one body would hold the lock of the only "
            "writer until its end, and every other task and request would wait for it. Use "
            "PostgreSQL or MariaDB, or put transaction.atomic() around the few writes that "
            "belong together."
        )
    return wanted
