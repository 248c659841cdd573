"""System checks of what the settings put around each body: hooks, and one transaction."""

from __future__ import annotations

from collections.abc import Iterator

from django.core.checks import CheckMessage, Error
from django.db import connections

from ..conf import conf
from ..exceptions import InvalidCall, MethodNotAllowed
from ..offers import checked_path


def check_bodies() -> Iterator[CheckMessage]:
    """Yield the hooks that cannot be called, and a transaction that the database forbids."""
    for setting in ("BEFORE_JOB", "AFTER_JOB"):
        for path in getattr(conf, setting):
            try:
                checked_path(setting, path)
            except (InvalidCall, MethodNotAllowed) as error:
                yield Error(
                    f"A hook cannot be called: {error}",
                    hint=f'Correct its path in TASKCONTROL["{setting}"].',
                    id="taskcontrol.E044",
                )
    if conf.ATOMIC and connections[conf.DATABASE].vendor == "sqlite":
        yield Error(
            'TASKCONTROL["ATOMIC"] is on, and on SQLite every call of enqueue is refused '
            "that does not say atomic=False.",
            hint="Use PostgreSQL or MariaDB, or leave ATOMIC out.",
            id="taskcontrol.E045",
        )
