"""Suspends and resumes the dispatcher as a person does it: on record."""

from __future__ import annotations

from typing import Any

from .audit import perform
from .models import DispatcherState
from .suspension import dispatcher_state, toggle_dispatcher


def switch(
    user: Any, *, enable: bool, reason: str = ""
) -> tuple[DispatcherState, str | None]:
    """Suspend or resume as ``user``; return the state and what the history says.

    That is None when it was so already. Raises NotPermitted without the permission.
    """
    before = dispatcher_state()
    after = before

    def act() -> str | None:
        nonlocal after
        after = toggle_dispatcher(enable, user=user, reason=reason)
        if after.suspended == before.suspended:
            return None
        if enable:
            return "The dispatcher was resumed."
        return f"The dispatcher was suspended: {reason or 'no reason given'}."

    told = perform(user, before, act)
    return after, told
