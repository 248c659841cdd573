"""System checks of the site: each finding has an id, and a hint that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning as Caution, register
from django.db import connections

from .. import registry
from ..conf import conf, known_queues
from ..exceptions import MethodNotAllowed, MethodNotCallable, MethodNotFound
from ..targets import target_of_type
from .celerysettings import check_celery
from .ouradmin import check_admin
from .ourbodies import check_bodies
from .ourschedules import check_schedules
from .oursettings import check_settings

MIDDLEWARE = "taskcontrol.middleware.CurrentUserMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"


@register("taskcontrol")
def check_site(**_options: Any) -> list[CheckMessage]:
    """Return everything that is wrong; what stands on a wrong setting is not looked at."""
    found = list(check_settings())
    if any(one.is_serious() for one in found):
        return found
    return [
        *found,
        *_check_database(connections.settings[conf.DATABASE]),
        *_check_time_zones(),
        *_check_middleware(list(settings.MIDDLEWARE)),
        *check_admin(),
        *check_celery(),
        *_check_declarations(),
        *check_bodies(),
        *check_schedules(),
    ]


def _check_database(database: dict[str, Any]) -> Iterator[CheckMessage]:
    if database["CONN_MAX_AGE"] == 0:
        yield Caution(
            f"CONN_MAX_AGE of the database {conf.DATABASE!r} is 0: each task opens a new session.",
            hint='Set "CONN_MAX_AGE": 600 (and "CONN_HEALTH_CHECKS": True).',
            id="taskcontrol.W040",
        )
    if database["ENGINE"].endswith("sqlite3"):
        options = database["OPTIONS"]
        wal = "journal_mode=wal" in options.get("init_command", "").lower().replace(" ", "")
        if not wal or options.get("transaction_mode") != "IMMEDIATE":
            yield Caution(
                "SQLite is not set up for several processes that write: workers will fail with "
                '"database is locked".',
                hint='Set "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE", '
                '"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"}.',
                id="taskcontrol.W041",
            )


def _check_time_zones() -> Iterator[CheckMessage]:
    if not settings.USE_TZ:
        yield Error(
            "USE_TZ is False: the database would give times without their zone, which "
            "taskcontrol can neither compare nor show.",
            hint="Set USE_TZ = True.",
            id="taskcontrol.E047",
        )


def _check_middleware(middleware: list[str]) -> Iterator[CheckMessage]:
    if AUTHENTICATION not in middleware:
        return  # no users here: every task belongs to the system
    if MIDDLEWARE not in middleware:
        yield Caution(
            "CurrentUserMiddleware is missing: tasks do not know whose request made them, and "
            "run as the system.",
            hint=f'Put "{MIDDLEWARE}" behind AuthenticationMiddleware in MIDDLEWARE.',
            id="taskcontrol.W043",
        )
    elif middleware.index(MIDDLEWARE) < middleware.index(AUTHENTICATION):
        yield Caution(
            "CurrentUserMiddleware stands before AuthenticationMiddleware and sees no user.",
            hint="Put it behind AuthenticationMiddleware in MIDDLEWARE.",
            id="taskcontrol.W044",
        )


def _check_declarations() -> Iterator[CheckMessage]:
    for method, declaration in sorted(registry.declarations.items()):
        queue = declaration.values.get("queue")
        if queue and queue not in known_queues():
            yield Error(
                f"The task type {method} is declared for the unknown queue {queue!r}.",
                hint=f'TASKCONTROL["QUEUES"] has: {", ".join(sorted(known_queues()))}.',
                id="taskcontrol.E040",
            )
        try:
            target_of_type(method)
        except (MethodNotFound, MethodNotCallable, MethodNotAllowed) as error:
            yield Caution(
                f"The declared task type {method} cannot run: {error}",
                hint="Correct its path or drop the declaration.",
                id="taskcontrol.W045",
            )
