"""A second connection beside the body's: for progress, cancel checks and other side notes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.db import connections, transaction

from . import lockwaits
from .conf import conf, home_is
from .exceptions import InvalidCall

ALIAS = "taskcontrol_side"


_none: ContextVar[bool] = ContextVar("taskcontrol_no_side", default=False)


def side_database() -> str:
    """Return the alias under which side notes are written and read.

    The body's own connection may be inside a transaction, where a note would be seen late,
    or in an aborted one, where it would fail. On SQLite a second writer would wait for the
    body's transaction, that is for itself, so the body's connection serves while one is open.
    """
    home = connections[conf.DATABASE]
    if _none.get() or (home.vendor == "sqlite" and home.in_atomic_block):
        return conf.DATABASE
    return _alias()


def _alias() -> str:
    if ALIAS not in connections.settings:
        connections.settings[ALIAS] = connections[conf.DATABASE].settings_dict
    return ALIAS


@contextmanager
def none() -> Iterator[None]:
    """Let the body's connection serve inside the block, whose task no other sees yet."""
    token = _none.set(True)
    try:
        yield
    finally:
        _none.reset(token)


@contextmanager
def apart() -> Iterator[None]:
    """Let everything inside the block use the second connection, in a transaction there.

    Without an open transaction there is nothing to keep apart from, and nothing changes.
    Raises InvalidCall on SQLite, where it would wait for the transaction that waits for it.
    """
    home = connections[conf.DATABASE]
    if not home.in_atomic_block:
        yield
        return
    if home.vendor == "sqlite":
        raise InvalidCall(
            "enqueue_after_commit=False cannot be had within a transaction on SQLite: the "
            "second connection would wait for your transaction, and that for this call. "
            "Enqueue before or after the transaction, or leave the option out."
        )
    with home_is(_alias()):
        yield from _impatiently()


def _impatiently() -> Iterator[None]:
    """The caller's own transaction may hold what is waited for, and would for ever."""
    using = conf.DATABASE
    try:
        with transaction.atomic(using=using), lockwaits.at_most(conf.KEY_WAIT, using):
            yield
    except lockwaits.LockWaitOver as over:
        raise InvalidCall(
            f"enqueue_after_commit=False has waited {conf.KEY_WAIT:g} s for what another "
            "transaction holds, perhaps your own: a batch or a key that it has just used. "
            "Nothing was stored."
        ) from over


def close_side_connection() -> None:
    """Close this thread's second connection, if it was opened."""
    if ALIAS in connections.settings:
        connections[ALIAS].close()
