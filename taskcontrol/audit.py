"""Writes what a person did into the history that admin shows, together with the act."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.apps import apps

from .brief import brief
from .text import clean

#: The longest reason that a person can give.
REASON_MAX = 300
CHANGED, DELETED = 2, 3


def given_reason(text: Any) -> str:
    """Return a reason as a person gave it, storable everywhere."""
    return clean(text or "", REASON_MAX).strip()


def perform(
    user: Any, row: Any, act: Callable[[], str | None], *, flag: int = CHANGED
) -> str | None:
    """Do ``act`` and note in the history of ``row`` what it returns, in one transaction.

    None from ``act`` means that nothing changed. Without admin there is no history.
    """
    with brief():
        told = act()
        if told and apps.is_installed("django.contrib.admin"):
            _write(user, row, told, flag)
    return told


def _write(user: Any, row: Any, told: str, flag: int) -> None:
    from django.contrib.admin.models import LogEntry

    LogEntry.objects.log_actions(
        user.pk, [row], flag, clean(told, 1000), single_object=True
    )
