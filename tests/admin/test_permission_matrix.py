"""Who gets where: every address of taskcontrol, by every role, and what it writes down.

A new address must be added to the table, else ``test_the_table_names_every_address`` fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import django
import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.signals import pre_save
from django.test import Client
from django.urls import reverse

from taskcontrol import broker, schedules, urls
from taskcontrol.models import QueueState
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state, toggle_dispatcher
from tests import tasks
from tests.factories import (
    make_batch,
    make_task,
    make_type,
    make_user,
    make_worker,
    seconds_ago,
)

pytestmark = pytest.mark.django_db

#: What an operator may, beside seeing everything.
OPERATES = (
    "cancel_tasklog",
    "retry_tasklog",
    "prioritize_tasklog",
    "run_tasktype",
    "change_tasktype",
    "control_queue",
    "control_worker",
    "control_dispatcher",
    "manage_schedule",
)
SEES = (
    "view_tasklog",
    "view_taskevent",
    "view_incident",
    "view_tasktype",
    "view_taskbatch",
    "view_worker",
    "view_queuestate",
    "view_dispatcherstate",
    "view_schedule",
)
#: No login; a login outside of the staff; staff without a permission; who sees all; who works
#: with it; the superuser; staff without a permission, on what this one has made; and a person
#: outside of the staff on the own things.
ROLES = ("anonymous", "customer", "staff", "viewer", "operator", "boss", "owner", "buyer")


#: The key of a task that is chosen in the list.
LISTED = 900_000_001


# What the addresses are about, each as its creator has left it


def task(owner: Any) -> list[Any]:
    return [make_task(created_by=owner).pk]


def failed(owner: Any) -> list[Any]:
    return [make_task(Status.FAILED, created_by=owner).pk]


def finished(owner: Any) -> list[Any]:
    return [make_task(Status.FINISHED, created_by=owner).pk]


def paused(owner: Any) -> list[Any]:
    return [make_task(Status.PAUSED, created_by=owner).pk]


def stopping(owner: Any) -> list[Any]:
    told: dict[str, Any] = {
        "ended_at": seconds_ago(60),
        "cancel_requested_at": seconds_ago(60),
    }
    told["worker"] = make_worker()
    return [make_task(Status.CANCELED, created_by=owner, occupies=True, **told).pk]


def type_(owner: Any) -> list[Any]:
    return [make_type().pk]


def paused_type(owner: Any) -> list[Any]:
    return [make_type(paused_at="2026-01-01T00:00:00Z").pk]


def changed_type(owner: Any) -> list[Any]:
    return [make_type(priority=5, is_standard=True, declared={"priority": 1}).pk]


def batch(owner: Any) -> list[Any]:
    made = make_batch("b", created_by=owner, total=2)
    make_task(batch_id="b", created_by=owner)
    make_task(Status.FAILED, batch_id="b", created_by=owner)
    return [made.pk]


def listed_batch(owner: Any) -> list[Any]:
    batch(owner)
    return []


def listed_task(owner: Any) -> list[Any]:
    make_task(created_by=owner, pk=LISTED)
    return []


def paused_batch(owner: Any) -> list[Any]:
    made = make_batch("b", created_by=owner, paused_at="2026-01-01T00:00:00Z", total=1)
    make_task(Status.PAUSED, batch_id="b", created_by=owner)
    return [made.pk]


def schedule(owner: Any) -> list[Any]:
    return [_hourly().pk]


def disabled_schedule(owner: Any) -> list[Any]:
    made = _hourly()
    schedules.disable(made.name)
    return [made.pk]


def _hourly() -> Any:
    return schedules.create(
        tasks.give_back, cron="0 * * * *", zone="UTC", name="hourly", arguments={"value": 1}
    )


def worker(owner: Any) -> list[Any]:
    return [make_worker().pk]


def queue(owner: Any) -> list[Any]:
    make_task(queue="long")
    return [QueueState.objects.get_or_create(name="long")[0].pk]


def paused_queue(owner: Any) -> list[Any]:
    at = "2026-01-01T00:00:00Z"
    return [QueueState.objects.update_or_create({"paused_at": at}, name="long")[0].pk]


def dispatcher(owner: Any) -> list[Any]:
    return [dispatcher_state().pk]


def suspended(owner: Any) -> list[Any]:
    return [toggle_dispatcher(False).pk]


def nothing(owner: Any) -> list[Any]:
    return []


#: The answer to a change of a row that one does not see: from Django 6.1 on stock admin looks
#: for the row first, and leads away when there is none.
UNSEEN = "go" if django.VERSION >= (6, 1) else "no"
#: What is sent by POST.
WHY, SURE, LONG, BARE = (
    {"reason": "why"},
    {"post": "yes"},
    {"name": "long"},
    dict[str, Any](),
)
#: What a list sends when its question was answered with yes.
CONFIRMED = {"confirmed": "yes", "index": 0}
CANCEL_BATCHES = {"action": "cancel_batches", "_selected_action": ["b"], **CONFIRMED}
TO_FRONT = {"action": "to_front_tasks", "_selected_action": [LISTED], **CONFIRMED}
#: What an act leaves: a line in the history; also an event of each task; the same, but the
#: history of the batch is written behind many short transactions.
LOG, EVENT, BEHIND = "log", "event", "behind"


#: The addresses outside admin, and those in admin that have the same names there.
SITE = {str(pattern.name) for pattern in urls.urlpatterns}
LIVE = SITE | {"taskcontrol_live_state", "taskcontrol_live_stream", "taskcontrol_task_act"}


class Row(NamedTuple):
    """One address, and how each role is answered."""

    name: str
    of: Callable[[Any], list[Any]]
    #: By role: ok, go (sent on), same (either, but nothing was done), login, no (403),
    #: none (404), empty (204).
    wants: str
    #: None asks by GET.
    data: dict[str, Any] | None = None
    does: str = ""
    #: What follows the row in the address.
    more: tuple[Any, ...] = ()

    @property
    def url_name(self) -> str:
        """Return the name of the address."""
        return self.name if self.name in LIVE else f"taskcontrol_{self.name}"

    @property
    def expected(self) -> dict[str, str]:
        """Return the answers by role."""
        return dict(zip(ROLES, self.wants.split(), strict=True))


#: In the order of ROLES: anonymous customer staff viewer operator boss owner buyer.
TABLE: tuple[Row, ...] = (
    Row("live_state", nothing, "no ok ok ok ok ok ok ok"),
    Row("live_stream", nothing, "empty empty empty empty empty empty empty empty"),
    Row("my_task", task, "login none none none none none ok ok"),
    Row(
        "my_task_act",
        task,
        "login none none none none none go go",
        BARE,
        EVENT,
        more=("cancel",),
    ),
    Row("my_tasks", nothing, "login ok ok ok ok ok ok ok"),
    Row("task_act", task, "no none none no ok ok ok ok", BARE, EVENT, more=("cancel",)),
    Row("dispatcherstate_add", nothing, "login login no no no no no login"),
    Row("dispatcherstate_add", nothing, "login login no no no no no login", BARE),
    Row("dispatcherstate_change", dispatcher, "login login no ok ok ok no login"),
    Row("dispatcherstate_change", dispatcher, "login login no no no no no login", BARE),
    Row("dispatcherstate_changelist", nothing, "login login go go go go go login"),
    Row("dispatcherstate_delete", dispatcher, "login login no no no no no login"),
    Row("dispatcherstate_delete", dispatcher, "login login no no no no no login", SURE),
    Row("dispatcherstate_history", dispatcher, "login login no ok ok ok no login"),
    Row("dispatcherstate_resume", suspended, "login login no no go go no login", WHY, LOG),
    Row(
        "dispatcherstate_suspend", dispatcher, "login login no no go go no login", WHY, LOG
    ),
    Row("taskcontrol_live_state", nothing, "no ok ok ok ok ok ok ok"),
    Row(
        "taskcontrol_live_stream",
        nothing,
        "empty empty empty empty empty empty empty empty",
    ),
    Row("queuestate_add", nothing, "login login no no no no no login"),
    Row("queuestate_add", nothing, "login login no no no no no login", BARE),
    Row("queuestate_change", queue, "login login no ok ok ok no login"),
    Row("queuestate_change", queue, "login login no no no no no login", BARE),
    Row("queuestate_changelist", nothing, "login login no ok ok ok no login"),
    Row("queuestate_delete", queue, "login login no no no no no login"),
    Row("queuestate_delete", queue, "login login no no no no no login", SURE),
    Row("queuestate_history", queue, "login login no ok ok ok no login"),
    Row("queuestate_pause", queue, "login login no no go go no login", WHY, LOG),
    Row("queuestate_purge", queue, "login login no no go go no login", LONG, EVENT),
    Row("queuestate_resume", paused_queue, "login login no no go go no login", WHY, LOG),
    Row("rows", nothing, "login login ok ok ok ok ok login"),
    Row("running", nothing, "login login ok ok ok ok ok login"),
    Row("schedule_add", nothing, "login login no no ok ok no login"),
    Row("schedule_add", nothing, "login login no no ok ok no login", BARE),
    Row("schedule_change", schedule, "login login no ok ok ok no login"),
    Row("schedule_change", schedule, "login login no no ok ok no login", BARE),
    Row("schedule_changelist", nothing, "login login no ok ok ok no login"),
    Row("schedule_delete", schedule, "login login no no ok ok no login"),
    Row("schedule_delete", schedule, "login login no no go go no login", SURE, LOG),
    Row("schedule_disable", schedule, "login login no no go go no login", WHY, LOG),
    Row("schedule_enable", disabled_schedule, "login login no no go go no login", WHY, LOG),
    Row("schedule_history", schedule, "login login no ok ok ok no login"),
    Row("schedule_run", schedule, "login login no no go go no login", WHY, LOG),
    Row("schedule_skip", schedule, "login login no no go go no login", WHY, LOG),
    Row(
        "taskcontrol_task_act",
        task,
        "no none none no ok ok ok ok",
        BARE,
        EVENT,
        more=("cancel",),
    ),
    Row("incident_changelist", nothing, "login login no ok ok ok no login"),
    Row("taskbatch_add", nothing, "login login no no no no no login"),
    Row("taskbatch_add", nothing, "login login no no no no no login", BARE),
    Row("taskbatch_cancel", batch, "login login none no go go go login", WHY, BEHIND),
    Row("taskbatch_change", batch, "login login go ok ok ok ok login"),
    Row("taskbatch_change", batch, f"login login {UNSEEN} no no no no login", BARE),
    Row("taskbatch_changelist", nothing, "login login ok ok ok ok ok login"),
    Row(
        "taskbatch_changelist",
        listed_batch,
        "login login same same go go same login",
        CANCEL_BATCHES,
        BEHIND,
    ),
    Row("taskbatch_delete", batch, "login login no no no no no login"),
    Row("taskbatch_delete", batch, "login login no no no no no login", SURE),
    Row("taskbatch_history", batch, "login login go ok ok ok ok login"),
    Row("taskbatch_pause", batch, "login login none no go go no login", WHY, BEHIND),
    Row(
        "taskbatch_resume", paused_batch, "login login none no go go no login", WHY, BEHIND
    ),
    Row("taskbatch_retry", batch, "login login none no go go go login", WHY, BEHIND),
    Row("taskbatch_retry_all", batch, "login login none no go go go login", WHY, BEHIND),
    Row("taskevent_changelist", nothing, "login login no ok ok ok no login"),
    Row("tasklog_add", nothing, "login login no no no no no login"),
    Row("tasklog_add", nothing, "login login no no no no no login", BARE),
    Row("tasklog_cancel", task, "login login none no go go go login", WHY, EVENT),
    Row("tasklog_change", task, "login login go ok ok ok ok login"),
    Row("tasklog_change", task, f"login login {UNSEEN} no no no no login", BARE),
    Row("tasklog_changelist", nothing, "login login ok ok ok ok ok login"),
    Row(
        "tasklog_changelist",
        listed_task,
        "login login same same go go same login",
        TO_FRONT,
        EVENT,
    ),
    Row("tasklog_delete", finished, "login login no no no ok no login"),
    Row("tasklog_delete", finished, "login login no no no go no login", SURE, LOG),
    Row("tasklog_edit_and_retry", failed, "login login none no no ok no login"),
    Row(
        "tasklog_edit_and_retry",
        failed,
        "login login none no no go no login",
        {"arguments": "{}"},
        EVENT,
    ),
    Row("tasklog_force_stop", stopping, "login login none no go go go login", WHY, EVENT),
    Row("tasklog_history", task, "login login go ok ok ok ok login"),
    Row("tasklog_pause", task, "login login none no go go no login", WHY, EVENT),
    Row("tasklog_resume", paused, "login login none no go go no login", WHY, EVENT),
    Row("tasklog_retry", failed, "login login none no go go no login", WHY, EVENT),
    Row("tasklog_retry_now", failed, "login login none no go go no login", WHY, EVENT),
    Row("tasklog_run_again", finished, "login login none no go go no login", WHY, EVENT),
    Row("tasklog_to_front", task, "login login none no go go no login", WHY, EVENT),
    Row("tasktype_add", nothing, "login login no no no ok no login"),
    Row("tasktype_add", nothing, "login login no no no ok no login", BARE),
    Row("tasktype_change", type_, "login login no ok ok ok no login"),
    Row("tasktype_change", type_, "login login no no ok ok no login", BARE),
    Row("tasktype_changelist", nothing, "login login no ok ok ok no login"),
    Row("tasktype_delete", type_, "login login no no no ok no login"),
    Row("tasktype_delete", type_, "login login no no no go no login", SURE, LOG),
    Row("tasktype_history", type_, "login login no ok ok ok no login"),
    Row("tasktype_pause", type_, "login login no no go go no login", WHY, LOG),
    Row("tasktype_reset", changed_type, "login login no no go go no login", WHY, LOG),
    Row("tasktype_resume", paused_type, "login login no no go go no login", WHY, LOG),
    Row("tasktype_run", type_, "login login no no ok ok no login"),
    Row("tasktype_run", type_, "login login no no go go no login", BARE, LOG),
    Row("worker_add", nothing, "login login no no no no no login"),
    Row("worker_add", nothing, "login login no no no no no login", BARE),
    Row("worker_change", worker, "login login no ok ok ok no login"),
    Row("worker_change", worker, "login login no no no no no login", BARE),
    Row("worker_changelist", nothing, "login login no ok ok ok no login"),
    Row("worker_delete", worker, "login login no no no no no login"),
    Row("worker_delete", worker, "login login no no no no no login", SURE),
    Row("worker_drain", worker, "login login no no go go no login", WHY, LOG),
    Row("worker_history", worker, "login login no ok ok ok no login"),
    Row("worker_ping", worker, "login login no no go go no login", WHY, LOG),
    Row("toggle_dispatcher", nothing, "no no no no ok ok no no", {"enable": 0}, LOG),
)


@pytest.fixture
def people() -> dict[str, Client]:
    """A browser for each role, all logged in but the first."""
    users = {
        "customer": make_user("customer"),
        "staff": make_user("staff", is_staff=True),
        "viewer": make_user("viewer", *SEES, is_staff=True),
        "operator": make_user("operator", *SEES, *OPERATES, is_staff=True),
        "boss": make_user("boss", is_staff=True, is_superuser=True),
        "owner": make_user("owner", is_staff=True),
        "buyer": make_user("buyer"),
    }
    dispatcher_state()
    browsers = {"anonymous": Client()}
    for role, user in users.items():
        browsers[role] = Client()
        browsers[role].force_login(user)
    return browsers


@pytest.fixture(autouse=True)
def a_broker_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The matrix is about people: what is behind the broker has its own tests."""
    monkeypatch.setattr(broker, "ping", lambda hostname: 0.01)


@contextmanager
def undone() -> Iterator[None]:
    """Take back what happens inside."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def owner_for(role: str) -> Any:
    """Return who made what ``role`` asks for."""
    return User.objects.get(username="buyer" if role == "buyer" else "owner")


def prepare(row: Row, role: str) -> str:
    """Make what ``row`` is about; return its address."""
    args = [*row.of(owner_for(role)), *row.more]
    space = "taskcontrol" if row.name in SITE else "admin"
    return reverse(f"{space}:{row.url_name}", args=args)


def word_of(answer: Any) -> str:
    """Return what an answer means to a person."""
    if answer.status_code == 302:
        return "login" if "login" in answer.url else "go"
    words = {200: "ok", 204: "empty", 403: "no", 404: "none", 405: "not-so", 400: "bad"}
    return words[answer.status_code]


def everything() -> dict[str, list[Any]]:
    """Return all rows of taskcontrol and of its schedules."""
    ours: list[Any] = [
        *apps.get_app_config("taskcontrol").get_models(),
        *apps.get_app_config("django_celery_beat").get_models(),
        LogEntry,
    ]
    return {m.__name__: list(m._default_manager.order_by("pk").values()) for m in ours}


def addresses() -> set[str]:
    """Return the names of all addresses of taskcontrol; those without one only lead on."""
    ours = [
        a for m, a in admin.site._registry.items() if m._meta.app_label == "taskcontrol"
    ]
    patterns = [pattern for screen in ours for pattern in screen.urls]
    return {pattern.name for pattern in [*patterns, *urls.urlpatterns] if pattern.name}


def ids(row: Row) -> str:
    return f"{row.name}-{'get' if row.data is None else 'post'}-{row.of.__name__}"


def asked(row: Row, role: str, client: Client) -> tuple[str, dict[str, int], bool]:
    """Ask as ``role``; return the answer, what was written down, and whether all stayed."""
    with undone():
        url = prepare(row, role)
        before = everything() if row.data is not None else {}
        word = word_of(client.get(url) if row.data is None else client.post(url, row.data))
        after = everything() if row.data is not None else {}
    left = {name: len(after[name]) - len(before[name]) for name in after}
    if row.does and word in {"go", "ok"} and before == after:
        word = "same"
    return word, left, before == after


def test_the_table_names_every_address():
    assert addresses() == {row.url_name for row in TABLE}


@pytest.mark.parametrize("row", TABLE, ids=ids)
def test_each_role_is_answered_as_the_table_says_and_who_is_refused_changes_nothing(
    row, people
):
    told = {role: asked(row, role, client) for role, client in people.items()}

    assert {role: word for role, (word, _left, _same) in told.items()} == row.expected
    if row.data is None:
        return
    for role, (word, left, same) in told.items():
        if word in {"same", "login", "no", "none"} or not row.does:
            assert same, f"{role} changed something"
            continue
        assert left["LogEntry"] >= 1, f"{role} left no trace"
        if row.does in {EVENT, BEHIND} and role in {"operator", "boss"}:
            assert left["TaskEvent"] >= 1, f"{role} left no event"


@pytest.mark.parametrize(
    "row", [row for row in TABLE if row.does and row.data in (WHY, LONG)], ids=ids
)
def test_a_button_is_not_pressed_by_following_a_link(row, people):
    url = prepare(row, "owner")
    before = everything()
    for client in people.values():
        assert client.get(url).status_code in {302, 405}
    assert everything() == before


@pytest.mark.parametrize("row", [row for row in TABLE if row.does in {LOG, EVENT}], ids=ids)
def test_an_act_that_cannot_be_written_down_is_not_done(row, people):
    owner = "buyer" if row.name.startswith("my_") else "owner"
    client = people["buyer" if owner == "buyer" else "boss"]
    client.raise_request_exception = False
    url = prepare(row, owner)
    before = everything()

    def refuse(sender: Any, **_kwargs: Any) -> None:
        raise OSError("no space left in the history")

    pre_save.connect(refuse, sender=LogEntry)
    try:
        with transaction.atomic():
            answer = client.post(url, row.data)
    finally:
        pre_save.disconnect(refuse, sender=LogEntry)

    assert answer.status_code == 500
    assert everything() == before
