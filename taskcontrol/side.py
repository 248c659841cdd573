"""A second connection beside the body's: for progress, cancel checks and other side notes."""

from __future__ import annotations

from django.db import connections

from .conf import conf

ALIAS = "taskcontrol_side"


def side_database() -> str:
    """Return the alias under which side notes are written and read.

    The body's own connection may be inside a transaction, where a note would be seen late,
    or in an aborted one, where it would fail. On SQLite a second writer would wait for the
    body's transaction, that is for itself, so the body's connection serves while one is open.
    """
    home = connections[conf.DATABASE]
    if home.vendor == "sqlite" and home.in_atomic_block:
        return conf.DATABASE
    if ALIAS not in connections.settings:
        connections.settings[ALIAS] = home.settings_dict
    return ALIAS


def close_side_connection() -> None:
    """Close this thread's second connection, if it was opened."""
    if ALIAS in connections.settings:
        connections[ALIAS].close()
