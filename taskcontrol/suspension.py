"""The row that says whether the dispatcher may promote anything, by whom and why not."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, OperationalError

from .bell import request_dispatch
from .brief import brief
from .dialect import DatabaseNow, locked_keys
from .exceptions import NotPermitted
from .models import DispatcherState, WaitInterval
from .text import clipped

if TYPE_CHECKING:
    from .people import Person

PERMISSION = "taskcontrol.control_dispatcher"


def dispatcher_state() -> DispatcherState:
    """Return the one row of the dispatcher, made when it is missing."""
    state = DispatcherState.objects.filter(pk=DispatcherState.THE_ONE).first()
    if state is not None:
        return state  # type: ignore[no-any-return]
    try:
        with brief():
            DispatcherState.objects.create(
                pk=DispatcherState.THE_ONE, site=secrets.token_hex(4)
            )
    except (IntegrityError, OperationalError):
        pass  # made by another process at the same moment, which MariaDB may call a deadlock
    return DispatcherState.objects.get(pk=DispatcherState.THE_ONE)  # type: ignore[no-any-return]


def can_dispatch_now() -> bool:
    """Return whether the dispatcher is running, that is, not suspended."""
    return not dispatcher_state().suspended


def toggle_dispatcher(
    enable: bool,  # noqa: FBT001 - the seeds' call: toggle_dispatcher(enable=False)
    *,
    user: Person | None = None,
    reason: str = "",
) -> DispatcherState:
    """Let the dispatcher promote (``enable=True``) or suspend it, until told otherwise.

    While suspended nothing new is promoted; what is Queued still starts and runs. The state
    survives the restart of everything. ``user`` needs the permission ``control_dispatcher``,
    else PermissionError; without a user (shell, command) the system acts.
    """
    asking: Any = user  # a user model need not know permissions, as type checkers see it
    if asking is not None and not asking.has_perm(PERMISSION):
        raise NotPermitted(user, PERMISSION, "suspend or resume the dispatcher")
    dispatcher_state()
    with brief():
        state = _locked_state()
        if state.suspended == (not enable):
            return state
        if enable:
            _resume(state)
        else:
            _suspend(state, user, reason)
        state.save()
        state.refresh_from_db()
    request_dispatch()
    return state


def _locked_state() -> DispatcherState:
    rows = DispatcherState.objects.filter(pk=DispatcherState.THE_ONE)
    locked_keys(rows)
    return rows.get()  # type: ignore[no-any-return]


def _suspend(state: DispatcherState, user: Any, reason: str) -> None:
    state.suspended = True
    state.suspended_by_id = getattr(user, "pk", None)
    state.suspended_at = DatabaseNow()
    state.suspended_reason = clipped(reason, 300)
    WaitInterval.objects.create(
        scope=WaitInterval.Scope.DISPATCHER, reason=state.suspended_reason, actor=user
    )


def _resume(state: DispatcherState) -> None:
    state.suspended = False
    state.suspended_by_id = None
    state.suspended_at = None
    state.suspended_reason = ""
    WaitInterval.objects.filter(scope=WaitInterval.Scope.DISPATCHER, to_at=None).update(
        to_at=DatabaseNow()
    )
