"""System checks of Celery: its settings, beat's schedule, and the names of the tasks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

from celery.exceptions import DuplicateTaskNameWarning
from django.core.checks import CheckMessage, Error, Warning as Caution
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import autodiscover_modules

from ..celeryapp import project_app

#: The Celery tasks of ``tasks.py`` that beat has to send.
SWEEPS = ("dispatch", "retry_failed", "resend", "rescue", "prune", "schedules", "roll_up")
#: All of them.
OURS = ("run", "deliver", "enqueue", *SWEEPS)


def check_celery() -> Iterator[CheckMessage]:
    """Yield what is wrong with the project's Celery app."""
    try:
        app = project_app()
        transport = app.connection_for_write().transport.driver_type
    except (ImproperlyConfigured, ImportError, KeyError) as error:
        yield Error(
            f"Celery cannot be set up: {error}",
            hint='Install "celery[redis]" (or what your broker needs), make a Celery app in '
            "the project's package, and set CELERY_BROKER_URL.",
            id="taskcontrol.E010",
        )
        return
    yield from _check_settings(app.conf, transport)
    yield from _check_beat(app.conf.beat_schedule or {})
    yield from _check_names(app)


class Wanted(NamedTuple):
    """A setting of Celery, when it is right, and why."""

    id: str
    name: str
    value: str
    is_right: Callable[[Any], bool]
    why: str
    #: Of which transports; empty means all.
    only: str = ""


def _option(name: str) -> Callable[[Any], bool]:
    return lambda conf: bool((conf.broker_transport_options or {}).get(name))


WANTED = (
    Wanted(
        "E011",
        "CELERY_TASK_SERIALIZER",
        '"json"',
        lambda conf: conf.task_serializer == "json" and "json" in conf.accept_content,
        'Messages are JSON: what another serializer writes can carry code. "json" must also '
        "be in CELERY_ACCEPT_CONTENT.",
    ),
    Wanted(
        "W010",
        "CELERY_ACCEPT_CONTENT",
        '["json"]',
        lambda conf: set(conf.accept_content) <= {"json"},
        "With pickle or yaml, who can write to the broker can run code in the workers.",
    ),
    Wanted(
        "W011",
        "CELERY_TASK_ACKS_LATE",
        "False",
        lambda conf: not conf.task_acks_late,
        "The database already lets a lost task run again. With late acknowledgment the broker "
        "does it too, for every task that runs longer than its visibility timeout.",
    ),
    Wanted(
        "W012",
        "CELERY_TASK_REJECT_ON_WORKER_LOST",
        "False",
        lambda conf: not conf.task_reject_on_worker_lost,
        "A task that kills its process would come back for ever.",
    ),
    Wanted(
        "W013",
        "CELERY_WORKER_PREFETCH_MULTIPLIER",
        "1",
        lambda conf: conf.worker_prefetch_multiplier == 1,
        "What a worker fetches ahead waits behind long tasks and has lost its order.",
    ),
    Wanted(
        "W014",
        "CELERY_WORKER_DISABLE_PREFETCH",
        "True",
        lambda conf: conf.worker_disable_prefetch,
        "Otherwise a worker takes messages for which it has no free slot.",
        only="redis",
    ),
    Wanted(
        "W015",
        "CELERY_DB_REUSE_MAX",
        "10**9",
        lambda conf: conf.get("CELERY_DB_REUSE_MAX"),
        "Otherwise Celery closes the database connections around each task, which costs a new "
        "session each time.",
    ),
    Wanted(
        "W016",
        "CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP",
        "True",
        lambda conf: conf.broker_connection_retry_on_startup,
        "Otherwise a worker that starts before the broker ends at once.",
    ),
    Wanted(
        "W017",
        "CELERY_BROKER_CONNECTION_MAX_RETRIES",
        "None",
        lambda conf: not conf.broker_connection_max_retries,
        "Otherwise a worker gives up while the broker is away for long.",
    ),
    Wanted(
        "W018",
        "CELERY_BROKER_POOL_ACQUIRE_TIMEOUT",
        "5",
        lambda conf: conf.broker_pool_acquire_timeout,
        "Otherwise who sends a message may wait for a connection for ever.",
    ),
    Wanted(
        "W019",
        "CELERY_WORKER_SEND_TASK_EVENTS",
        "False",
        lambda conf: not conf.worker_send_task_events,
        "Events cost the worker's main process half of its time, and nobody needs them here.",
    ),
    Wanted(
        "W020",
        "CELERY_TASK_SEND_SENT_EVENT",
        "False",
        lambda conf: not conf.task_send_sent_event,
        "It adds a message to each message.",
    ),
    Wanted(
        "W021",
        'CELERY_BROKER_TRANSPORT_OPTIONS["socket_timeout"]',
        "10",
        _option("socket_timeout"),
        "Otherwise a Redis that hangs holds up whoever sends to it for ever.",
        only="redis",
    ),
    Wanted(
        "W022",
        'CELERY_BROKER_TRANSPORT_OPTIONS["socket_connect_timeout"]',
        "3",
        _option("socket_connect_timeout"),
        "Otherwise connecting to a Redis that hangs takes minutes.",
        only="redis",
    ),
    Wanted(
        "W023",
        'CELERY_BROKER_TRANSPORT_OPTIONS["confirm_publish"]',
        "True",
        _option("confirm_publish"),
        "Otherwise RabbitMQ may drop a message without a word.",
        only="amqp",
    ),
    Wanted(
        "W024",
        "CELERY_BROKER_CHANNEL_ERROR_RETRY",
        "True",
        lambda conf: conf.broker_channel_error_retry,
        "Otherwise a worker ends when RabbitMQ closes its channel.",
        only="amqp",
    ),
)


def _check_settings(conf: Any, transport: str) -> Iterator[CheckMessage]:
    for one in WANTED:
        if one.only in {"", transport} and not one.is_right(conf):
            kind = Error if one.id.startswith("E") else Caution
            yield kind(
                f"{one.name} should be {one.value}.",
                hint=one.why,
                id=f"taskcontrol.{one.id}",
            )


def _check_beat(schedule: dict[str, Any]) -> Iterator[CheckMessage]:
    sent = {entry["task"]: entry.get("options") or {} for entry in schedule.values()}
    missing = [
        f"taskcontrol.{name}" for name in SWEEPS if f"taskcontrol.{name}" not in sent
    ]
    if missing:
        yield Caution(
            f"CELERY_BEAT_SCHEDULE sends no {', '.join(missing)}.",
            hint="Workers sweep by themselves, but only beat prunes, and it sweeps while their "
            'threads are stuck. Add {"task": NAME, "schedule": 5.0, "options": {"expires": 5, '
            '"expire_seconds": 5}} for each; 3600 seconds do for taskcontrol.prune. If the '
            "entries stand in the database alone, silence this check.",
            id="taskcontrol.W030",
        )
    for name, options in sent.items():
        if name.startswith("taskcontrol.") and not options.keys() & {
            "expires",
            "expire_seconds",
        }:
            yield Caution(
                f"The entry of CELERY_BEAT_SCHEDULE for {name} does not expire.",
                hint='While no worker is up they would pile up. Add "options": {"expires": 5, '
                '"expire_seconds": 5}: Celery reads the first, django-celery-beat the second.',
                id="taskcontrol.W031",
            )


def _check_names(app: Any) -> Iterator[CheckMessage]:
    """Import the modules with tasks and look at the names that they register."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DuplicateTaskNameWarning)
            _import_tasks(app.conf)
            app.finalize()
    except Exception as error:  # noqa: BLE001 - it is the project's code
        yield Error(
            f"A module with Celery tasks cannot be imported: {type(error).__name__}: {error}",
            hint="No worker starts with it.",
            id="taskcontrol.E012",
        )
        return
    taken = [
        name
        for name in (f"taskcontrol.{one}" for one in OURS)
        if name in app.tasks and app.tasks[name].__module__ != "taskcontrol.tasks"
    ]
    for name in taken:
        yield Error(
            f"The Celery task {name!r} is not ours but stands in {app.tasks[name].__module__}.",
            hint="Names that begin with taskcontrol. are reserved; rename it.",
            id="taskcontrol.E013",
        )
    for name in sorted({*getattr(app, "_duplicate_task_names_warned", ())} - {*taken}):
        yield Caution(
            f"Two Celery tasks have the name {name!r}; only the first can ever run.",
            hint="Give one of them another name=.",
            id="taskcontrol.W032",
        )


def _import_tasks(conf: Any) -> None:
    # Not by Celery's loader, which runs all system checks first: it would never end.
    autodiscover_modules("tasks")
    for name in (*conf.include, *conf.imports):
        import_module(name)
