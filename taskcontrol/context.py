"""What runs here and for whom: the context variables of a thread or async task."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .currenttask import CurrentTask


class _Someone:
    """A user, perhaps one that the request has not looked up yet.

    asgiref compares what a context holds when it goes from a thread to an event loop and
    back. A lazy user would be looked up for that, in the loop, where a query is refused.
    """

    __slots__ = ("user",)

    def __init__(self, user: Any) -> None:
        self.user = user


class _Visitor:
    """Whoever makes a request: asked when it matters, since a view may log somebody in."""

    __slots__ = ("_request",)

    def __init__(self, request: Any) -> None:
        self._request = request

    @property
    def user(self) -> Any:
        return getattr(self._request, "user", None) or nobody()


class _Process:
    """Whether bodies have run or requests were answered in this process."""

    serves = False


_task: ContextVar[CurrentTask | None] = ContextVar("taskcontrol_task", default=None)
_user: ContextVar[_Someone | _Visitor | None] = ContextVar("taskcontrol_user", default=None)
_no_user_code: ContextVar[bool] = ContextVar("taskcontrol_no_user_code", default=False)


def current_task() -> CurrentTask | None:
    """Return the task whose body runs here, or None outside of one."""
    return _task.get()


def current_user() -> Any:
    """Return the user of the request or of the running task; None for the system.

    Of a request without a user, and of a thread that a body or a view has started without
    its context, it is Django's AnonymousUser: the system acts only outside of both.
    """
    task = _task.get()
    if task is not None:
        return task.user
    someone = _user.get()
    if someone is not None:
        return someone.user
    return nobody() if _is_stray_thread() else None


def nobody() -> Any:
    """Return the user who is not known, and who is never taken for the system."""
    from django.contrib.auth.models import AnonymousUser  # not before the apps are ready

    return AnonymousUser()


def _is_stray_thread() -> bool:
    return _Process.serves and threading.current_thread() is not threading.main_thread()


@contextmanager
def running(task: CurrentTask) -> Iterator[CurrentTask]:
    """Make ``task`` the current one inside the block and never after it."""
    _Process.serves = True
    token = _task.set(task)
    try:
        yield task
    finally:
        _task.reset(token)


@contextmanager
def acting_as(user: Any) -> Iterator[None]:
    """Make ``user`` the creator of what is enqueued inside the block."""
    token = _user.set(_Someone(user))
    try:
        yield
    finally:
        _user.reset(token)


@contextmanager
def answering(request: Any) -> Iterator[None]:
    """Make the user of ``request``, whoever it is by then, the creator inside the block."""
    _Process.serves = True
    token = _user.set(_Visitor(request))
    try:
        yield
    finally:
        _user.reset(token)


@contextmanager
def on_behalf_of(user: Any) -> Iterator[None]:
    """Run a callback inside the block as ``user``, apart from the task that runs around it."""
    task, creator = _task.set(None), _user.set(_Someone(user))
    try:
        yield
    finally:
        _user.reset(creator)
        _task.reset(task)


@contextmanager
def without_user_code() -> Iterator[None]:
    """Keep receivers and callbacks from running inside the block.

    A dispatch pass or a worker's main process that ran them could be stopped by them.
    """
    token = _no_user_code.set(True)
    try:
        yield
    finally:
        _no_user_code.reset(token)


def user_code_may_run() -> bool:
    """Return whether receivers and callbacks may run here."""
    return not _no_user_code.get()
