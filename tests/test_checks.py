"""The system checks: each with the mistake that it finds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.conf import settings as site
from django.core import checks
from django.db import connections

from taskcontrol import registry
from taskcontrol.checks import celerysettings as celerychecks
from taskcontrol.checks.celerysettings import OURS, SWEEPS, WANTED
from taskcontrol.checks.oursettings import KINDS, MEANINGS
from taskcontrol.checks.site import AUTHENTICATION, MIDDLEWARE
from taskcontrol.conf import Conf, known_settings
from taskcontrol.registry import Declaration
from tests.servers.environment import site_environment

ROOT = Path(__file__).resolve().parent.parent


def found() -> dict[str, checks.CheckMessage]:
    """Return what the checks say by id, without what the database of the run is to blame for."""
    messages = checks.run_checks(tags=["taskcontrol"])
    ids = {str(one.id).removeprefix("taskcontrol."): one for one in messages}
    return {key: one for key, one in ids.items() if key not in {"W040", "W041"}}


def finding(key: str) -> checks.CheckMessage:
    messages = found()
    assert key in messages, f"found only {messages}"
    return messages[key]


# The whole


@pytest.mark.parametrize("broker", ["redis://localhost/0", "amqp://guest@localhost//"])
@pytest.mark.only_on("sqlite")
def test_the_site_that_comes_along_has_no_finding(broker, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "django", "check", "--fail-level", "DEBUG"],
        env={
            **site_environment(),
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "TASKCONTROL_DATA_DIR": str(tmp_path),
            "DATABASE_URL": "",
            "BROKER_URL": broker,
            "REDIS_URL": "",
            "PATH": "/usr/bin:/bin",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == (
        "System check identified no issues (0 silenced).\n",
        "",
    )


def test_the_settings_of_the_tests_have_no_finding():
    assert found() == {}


def test_every_finding_has_a_hint(settings):
    settings.TASKCONTROL = {"QUEUEZ": {}, "ATOMIC": 1}

    assert all(one.hint for one in found().values())


def test_every_id_is_used_once():
    assert len({one.id for one in WANTED}) == len(WANTED)


# TASKCONTROL


def test_settings_that_are_no_dict_are_found(settings):
    settings.TASKCONTROL = ["DATABASE"]

    assert list(found()) == ["E001"]


def test_without_settings_the_defaults_are_right(settings):
    del settings.TASKCONTROL

    assert found() == {}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("QUEUEZ", "Did you mean QUEUES?"),
        ("retention_days", "Did you mean RETENTION_DAYS?"),
        ("FLUX", "There are: "),
        (5, "There are: "),
    ],
)
def test_an_unknown_name_is_found_with_the_one_that_was_meant(conf, name, hint):
    conf()
    site.TASKCONTROL = {**site.TASKCONTROL, name: 1}

    message = finding("W001")

    assert repr(name) in message.msg
    assert message.hint is not None
    assert message.hint.startswith(hint)


WRONG: dict[str, list[Any]] = {
    "ALLOWED_MODULES": ["tasks", [1], None],
    "ARGUMENTS_MAX_BYTES": [0, -1, 1.5, "64", True],
    "ATOMIC": [1, "yes", None],
    "BROKER_TIMEOUT": [0, "3", None, False],
    "CANCEL_GRACE": [-1],
    "DATABASE": [1, None],
    "LOST_LIMIT": [-1, 0.5],
    "PROTECT_STANDARD_TYPES": [0],
    "QUEUES": [
        ["long"],
        {"long": 300},
        {"": {}},
        {"a,b": {}},
        {"long": {"timeout": 0}},
        {"long": {"timeout": "300"}},
        {"long": {"time_out": 300}},
        {"long": {"background_workers": True}},
        {1: {}},
    ],
    "REDIS_URL": [6379, "redis+socket:///run/redis.sock", "localhost:6379"],
    "RETENTION_DAYS": [
        30,
        {"Pending": 1},
        {"Failed": -1},
        {"Failed": "30"},
        {"failed": 1},
        {"Failed": 1e9},
    ],
    "FAILED_LIMIT_PER_TYPE": [-1, 2.5, "1000"],
    "SECRET_NAMES": ["password", ["password", ""]],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, many in WRONG.items() for value in many]
)
def test_a_wrong_value_is_found_with_what_it_must_be(conf, name, value):
    conf(**{name: value})

    message = finding("E002")

    assert message.msg.startswith(f"TASKCONTROL[{name!r}] must be ")
    assert message.msg.endswith(f"not {value!r}.")
    assert message.is_serious()


RIGHT: dict[str, Any] = {
    "ALLOWED_MODULES": ("shop.jobs",),
    "BROKER_TIMEOUT": 3,
    "CANCEL_GRACE": 0,
    "LOST_LIMIT": 0,
    "PROTECT_STANDARD_TYPES": None,
    "QUEUES": {"mail": {}, "long": {"timeout": 3600, "background_workers": 2}},
    "REDIS_URL": "rediss://cache:6379/1",
    "RETENTION_DAYS": {"Failed": 0.5},
    "SECRET_NAMES": {"password"},
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_value_is_no_finding(conf, name):
    conf(**{name: RIGHT[name]})

    assert found() == {}


def test_every_setting_has_a_kind_that_can_be_checked():
    assert {Conf.__annotations__[name] for name in known_settings()} <= KINDS.keys()
    assert known_settings() >= MEANINGS.keys()


def test_a_database_that_does_not_exist_is_found(conf):
    conf(DATABASE="ledger")

    assert finding("E003").hint == "DATABASES has: default."


def test_a_worker_that_would_count_as_lost_between_two_signs_of_life_is_found(conf):
    conf(WORKER_LOST_AFTER=9, HEARTBEAT_INTERVAL=5)

    assert "twice HEARTBEAT_INTERVAL" in (finding("W002").hint or "")


# The site


@pytest.fixture
def database() -> Iterator[dict[str, Any]]:
    """The settings of the tasks' database, to be changed by a test."""
    entry = connections.settings["default"]
    kept = dict(entry)
    entry.update(CONN_MAX_AGE=600)
    yield entry
    entry.clear()
    entry.update(kept)


def database_findings() -> set[str]:
    ids = {str(one.id) for one in checks.run_checks(tags=["taskcontrol"])}
    return ids & {"taskcontrol.W040", "taskcontrol.W041"}


def test_a_new_session_for_each_task_is_found(database):
    assert "taskcontrol.W040" not in database_findings()

    database["CONN_MAX_AGE"] = 0

    assert "taskcontrol.W040" in database_findings()


@pytest.mark.parametrize("age", [None, 1])
def test_sessions_that_stay_are_no_finding(database, age):
    database["CONN_MAX_AGE"] = age

    assert "taskcontrol.W040" not in database_findings()


SQLITE = {
    "transaction_mode": "IMMEDIATE",
    "init_command": "pragma journal_mode = wal",
}


@pytest.mark.parametrize(
    ("options", "bad"),
    [
        (SQLITE, False),
        ({}, True),
        ({**SQLITE, "transaction_mode": "DEFERRED"}, True),
        ({**SQLITE, "init_command": "PRAGMA synchronous=NORMAL"}, True),
    ],
)
def test_sqlite_that_cannot_take_several_writers_is_found(database, options, bad):
    database.update(ENGINE="django.db.backends.sqlite3", OPTIONS=options)

    assert ("taskcontrol.W041" in database_findings()) is bad


def test_a_server_needs_no_options(database):
    database.update(ENGINE="django.db.backends.postgresql", OPTIONS={})

    assert "taskcontrol.W041" not in database_findings()


def test_a_site_without_time_zones_is_refused(settings):
    settings.USE_TZ = False

    found = finding("E047")
    assert found.is_serious()
    assert found.hint == "Set USE_TZ = True."


def test_a_missing_middleware_is_found(settings):
    settings.MIDDLEWARE = [one for one in settings.MIDDLEWARE if one != MIDDLEWARE]

    assert MIDDLEWARE in (finding("W043").hint or "")


def test_a_middleware_at_the_wrong_place_is_found(settings):
    settings.MIDDLEWARE = [MIDDLEWARE, AUTHENTICATION]

    assert "sees no user" in finding("W044").msg


def test_a_site_without_users_needs_no_middleware(settings):
    settings.MIDDLEWARE = []

    assert found() == {}


@pytest.fixture
def order(settings):
    """Let the templates be found in another order: ``order("django.contrib.admin")`` is first."""

    def put_first(name: str) -> None:
        others = [one for one in settings.INSTALLED_APPS if one != name]
        settings.INSTALLED_APPS = [name, *others]

    return put_first


def test_a_site_whose_admin_hides_our_module_is_found(order):
    order("django.contrib.admin")

    told = finding("W046")
    assert "django/contrib/admin/templates/admin/base_site.html" in told.msg
    assert 'Put "taskcontrol" above "django.contrib.admin"' in (told.hint or "")


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ('{% extends "admin/base_site.html" %}', False),
        (
            '{% extends "admin/base.html" %}{% load taskcontrol %}{% taskcontrol_js %}',
            False,
        ),
        ('{% extends "admin/base.html" %}', True),
    ],
)
def test_a_template_of_the_site_passes_on_to_our_module_or_is_found(
    settings, tmp_path, text, is_found
):
    (tmp_path / "admin").mkdir()
    (tmp_path / "admin" / "base_site.html").write_text(text)
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [str(tmp_path)]}]

    assert ("W046" in found()) is is_found


def test_a_site_without_admin_needs_no_order(settings):
    without = {"django.contrib.admin", "taskcontrol"}
    settings.INSTALLED_APPS = [
        "taskcontrol",
        *(one for one in settings.INSTALLED_APPS if one not in without),
    ]

    assert "W046" not in found()


# Celery's settings


@contextmanager
def celery_app(**values: Any) -> Iterator[Celery]:
    """Let the checks see an app of the test's own, right but for ``values``."""
    app = Celery("other", set_as_current=False)
    app.config_from_object(site, namespace="CELERY")
    for key in ("DB_REUSE_MAX", "CELERY_DB_REUSE_MAX"):
        values.setdefault(key, site.CELERY_DB_REUSE_MAX)
    app.conf.update(values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(celerychecks, "project_app", lambda: app)
        yield app


#: For each wanted setting what Celery would be set to by mistake.
MISTAKES: dict[str, dict[str, Any]] = {
    "E011": {"task_serializer": "pickle"},
    "W010": {"accept_content": ["json", "pickle"]},
    "W011": {"task_acks_late": True},
    "W012": {"task_reject_on_worker_lost": True},
    "W013": {"worker_prefetch_multiplier": 4},
    "W014": {"worker_disable_prefetch": False},
    "W015": {"CELERY_DB_REUSE_MAX": None},
    "W016": {"broker_connection_retry_on_startup": False},
    "W017": {"broker_connection_max_retries": 100},
    "W018": {"broker_pool_acquire_timeout": None},
    "W019": {"worker_send_task_events": True},
    "W020": {"task_send_sent_event": True},
    "W021": {"broker_transport_options": {"socket_connect_timeout": 3}},
    "W022": {"broker_transport_options": {"socket_timeout": 3}},
    "W023": {"broker_url": "amqp://", "broker_transport_options": {}},
    "W024": {
        "broker_url": "amqp://",
        "broker_transport_options": {"confirm_publish": True},
        "broker_channel_error_retry": False,
    },
}


def test_the_right_settings_of_celery_are_no_finding():
    with celery_app():
        assert found() == {}


def test_for_each_wanted_setting_a_mistake_is_tested():
    assert MISTAKES.keys() == {one.id for one in WANTED}


@pytest.mark.parametrize("key", MISTAKES)
def test_a_wrong_setting_of_celery_is_found(key):
    (wanted,) = [one for one in WANTED if one.id == key]
    with celery_app(**MISTAKES[key]):
        messages = found()

    assert list(messages) == [key]
    assert messages[key].msg == f"{wanted.name} should be {wanted.value}."
    assert messages[key].is_serious() is key.startswith("E")


def test_json_that_is_not_accepted_is_found():
    with celery_app(accept_content=["msgpack"]):
        assert set(found()) == {"E011", "W010"}


def test_what_concerns_redis_alone_is_not_asked_of_rabbitmq():
    with celery_app(
        broker_url="amqp://",
        worker_disable_prefetch=False,
        broker_transport_options={"confirm_publish": True},
    ):
        assert found() == {}


def test_a_transport_that_cannot_be_loaded_is_found():
    with celery_app(broker_url="carrierpigeon://"):
        assert "carrierpigeon" in finding("E010").msg


def test_a_project_without_a_celery_app_is_found(monkeypatch):
    from django.core.exceptions import ImproperlyConfigured

    def none() -> Celery:
        raise ImproperlyConfigured("No Celery app was found in 'shop'.")

    monkeypatch.setattr(celerychecks, "project_app", none)

    assert "No Celery app was found" in finding("E010").msg


# Beat


def entries(**changes: Any) -> dict[str, Any]:
    schedule = {
        name: {"task": f"taskcontrol.{name}", "schedule": 5.0, "options": {"expires": 5}}
        for name in SWEEPS
    }
    return {**schedule, **changes}


def test_a_full_schedule_is_no_finding():
    with celery_app(beat_schedule=entries()):
        assert found() == {}


@pytest.mark.parametrize("schedule", [{}, None])
def test_an_empty_schedule_lacks_every_sweep(schedule):
    with celery_app(beat_schedule=schedule):
        message = finding("W030")

    assert all(f"taskcontrol.{name}" in message.msg for name in SWEEPS)


def test_a_missing_sweep_is_named():
    schedule = entries()
    del schedule["prune"]
    with celery_app(beat_schedule=schedule):
        message = finding("W030")

    assert message.msg == "CELERY_BEAT_SCHEDULE sends no taskcontrol.prune."


@pytest.mark.parametrize("options", [{}, {"options": None}, {"options": {"priority": 3}}])
def test_a_sweep_that_never_expires_is_found(options):
    entry = {"task": "taskcontrol.rescue", "schedule": 5.0, **options}
    with celery_app(beat_schedule=entries(rescue=entry)):
        assert "taskcontrol.rescue does not expire" in finding("W031").msg


def test_schedules_of_the_project_may_live_for_ever():
    with celery_app(beat_schedule=entries(own={"task": "shop.close", "schedule": 60})):
        assert found() == {}


# The names of Celery tasks


def one() -> int:
    return 1


def two() -> int:
    return 2


def test_our_own_tasks_are_all_known():
    from celery import Task

    from taskcontrol import tasks

    found = [task for task in vars(tasks).values() if isinstance(task, Task)]

    assert {task.name for task in found} == {f"taskcontrol.{name}" for name in OURS}


def test_two_celery_tasks_with_one_name_are_found():
    with celery_app() as app:
        app.task(name="shop.close", shared=False, lazy=False)(one)
        with pytest.warns(match=r"shop\.close"):
            app.task(name="shop.close", shared=False, lazy=False)(two)

        assert "'shop.close'; only the first" in finding("W032").msg


def test_tasks_that_celery_has_not_registered_yet_are_looked_at_without_a_warning():
    with celery_app() as app:
        app.task(name="shop.open", shared=False)(one)
        app.task(name="shop.open", shared=False)(two)

        assert "'shop.open'; only the first" in finding("W032").msg


def test_a_task_that_took_one_of_our_names_is_found():
    with celery_app() as app:
        app.task(name="taskcontrol.run", shared=False, lazy=False)(one)

        messages = found()

    assert list(messages) == ["E013"]
    assert "taskcontrol.run" in messages["E013"].msg


def test_a_module_with_tasks_that_cannot_be_imported_is_found():
    with celery_app(imports=["tests.nowhere"]):
        assert "ModuleNotFoundError: No module named" in finding("E012").msg


# Declared types


@pytest.fixture
def declared() -> Iterator[Any]:
    """Declare types for one test."""
    kept = dict(registry.declarations)

    def declare(method: str, **values: Any) -> None:
        registry.declarations[method] = Declaration(method, values)

    yield declare
    registry.declarations.clear()
    registry.declarations.update(kept)


def test_a_right_declaration_is_no_finding(declared):
    declared("tests.tasks.nothing", queue="long")

    assert found() == {}


def test_a_declared_queue_that_no_setting_knows_is_found(declared):
    declared("tests.tasks.nothing", queue="logn")

    assert "unknown queue 'logn'" in finding("E040").msg


@pytest.mark.parametrize(
    "method", ["tests.tasks.gone", "nowhere.at.all", "tests.tasks.STARTED"]
)
def test_a_declared_path_that_leads_to_nothing_callable_is_found(declared, method):
    declared(method)

    assert f"The declared task type {method} cannot run" in finding("W045").msg


# What the settings put around bodies


@pytest.mark.parametrize(
    ("setting", "path", "why"),
    [
        ("BEFORE_JOB", "tests.tasks.not_there", "'tests.tasks' has no 'not_there'"),
        ("AFTER_JOB", "tests.tasks.add", "wants left, which it is not given"),
        ("AFTER_JOB", "os.getpid", "may not run"),
    ],
)
def test_a_hook_that_cannot_be_called_is_found(conf, setting, path, why):
    conf(**{setting: ["tests.tasks.nothing", path]})

    message = finding("E044")

    assert path in message.msg
    assert why in message.msg
    assert message.hint == f'Correct its path in TASKCONTROL["{setting}"].'


def test_bodies_in_one_transaction_are_an_error_on_sqlite_alone(conf):
    conf(ATOMIC=True)

    assert ("E045" in found()) == (connections["default"].vendor == "sqlite")
