"""The page of what runs at this second: each worker with the bodies in its slots."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db.models import Case, F, JSONField, Q, TextField, When
from django.db.models.functions import Cast, Length
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..arguments import decode
from ..audit import REASON_MAX
from ..counting import capped_count
from ..dialect import DatabaseNow
from ..models import TaskType, Worker, seconds
from ..occupancy import claimed_of
from ..permissions import CANCEL, SENSITIVE, VIEW, visible_to
from ..slots import slots_taken
from ..status import Status
from ..wording import duration
from .addresses import admin_url
from .presentation import (
    MASK,
    ago,
    badge,
    link,
    person,
    span,
    status_badge,
    visible,
    without_secrets,
)
from .story import progress_of
from .tasklists import HEAVY
from .taskverbs import CANCEL as CANCEL_VERB
from .vitals import memory_of_process, state_of

#: Bodies that the page shows.
MOST_SHOWN = 200
#: Characters of arguments that are read, and those that are shown of them.
MOST_READ, MOST_TOLD = 4000, 120
#: A run that takes so many times as long as usual, and so many seconds longer, stands out.
UNUSUAL, LEAST_UNUSUAL = 3, 10.0
#: What has a message: a worker that claims for its own children sends none.
_SENT = Q(status=Status.QUEUED, worker=None)


@dataclass
class Bench:
    """One worker with what it runs; no worker for what runs at once in other processes."""

    name: str
    url: str = ""
    badge: SafeString | str = ""
    told: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    #: Tasks that it has claimed for its own children, without a begin that is written.
    claimed: int = 0


def running_page(request: HttpRequest, site: Any, opts: Any, media: Any) -> Any:
    """Show who does what now: all of it to those who see all tasks, else the own."""
    context = {
        **site.each_context(request),
        "title": _("Running now"),
        "opts": opts,
        "media": media,
        "next": request.path,
        **running_now(request.user),
    }
    return TemplateResponse(request, "admin/taskcontrol/running.html", context)


def running_now(user: Any) -> dict[str, Any]:
    """Return what the page shows ``user``."""
    sees_all = user.has_perm(VIEW)
    rows = list(_bodies(user)[: MOST_SHOWN + 1])
    tasks = rows[:MOST_SHOWN]
    claimed = claimed_of(visible_to(user))
    wanted = {task.worker_id for task in tasks if task.worker_id} | claimed.keys()
    workers = {row.pk: row for row in _workers(wanted, with_idle=sees_all)}
    benches = {row.pk: _bench(row, user) for row in workers.values()}
    kinds = {kind.method: kind for kind in _kinds(tasks)}
    for task in tasks:
        bench = benches.get(task.worker_id) or _other_bench(task, benches)
        worker = workers.get(task.worker_id)
        bench.bodies.append(_body(task, worker, kinds.get(task.method), user))
    for key in benches.keys() & claimed.keys():
        benches[key].claimed = claimed[key]
    _count_slots(benches, workers, exact=sees_all and len(rows) == len(tasks))
    return {
        "benches": sorted(
            benches.values(),
            key=lambda bench: (not bench.bodies, not bench.claimed, bench.name),
        ),
        "number": len(tasks),
        "most": MOST_SHOWN if len(rows) > MOST_SHOWN else None,
        "own": not sees_all,
        "sent": capped_count(visible_to(user).filter(_SENT, occupies=True)),
        "claimed": claimed.total(),
        "sent_url": _list_url(status__exact=Status.QUEUED),
        "reason_max": REASON_MAX,
    }


def _bodies(user: Any) -> Any:
    """Return the tasks that have a body, with arguments that fit into a line."""
    size = Length(Cast("arguments", TextField()))
    given = Case(
        When(size__lte=MOST_READ, then=F("arguments")),
        default=None,
        output_field=JSONField(),
    )
    rows = visible_to(user).filter(occupies=True).exclude(status=Status.QUEUED)
    rows = rows.annotate(size=size, read_at=DatabaseNow()).annotate(given=given)
    return rows.defer(*HEAVY).select_related("created_by").order_by("started_at", "pk")


def _workers(keys: set[int], *, with_idle: bool) -> Any:
    wanted = Q(pk__in=keys)
    if with_idle:
        wanted |= Q(left_at=None, lost_at=None)
    return Worker.objects.filter(wanted).annotate(read_at=DatabaseNow()).order_by("pk")


def _kinds(tasks: list[Any]) -> Any:
    kinds = TaskType.objects.filter(method__in={task.method for task in tasks})
    return kinds.only("method", "usual_seconds", "owner_may_cancel")


def _bench(worker: Any, user: Any) -> Bench:
    may_look = user.has_perm("taskcontrol.view_worker")
    url = admin_url("taskcontrol_worker_change", worker.pk) if may_look else ""
    return Bench(visible(worker.hostname), url, badge(*state_of(worker)))


def _other_bench(task: Any, benches: dict[Any, Bench]) -> Bench:
    if task.worker_id is None:
        name = _("At once, outside of workers")
    else:
        name = _("Worker %(id)s (gone)") % {"id": task.worker_id}
    return benches.setdefault(task.worker_id, Bench(name))


def _count_slots(
    benches: dict[Any, Bench], workers: dict[Any, Any], *, exact: bool
) -> None:
    """Say how many slots are taken, unless the page does not show all who take them."""
    for key, worker in workers.items():
        queues = visible(", ".join(map(str, worker.queues)))
        told = _("%(taken)s of %(size)s slots taken; takes %(queues)s")
        if exact:
            bench = benches[key]
            taken = slots_taken(len(bench.bodies), bench.claimed, worker.pool_size)
            numbers = {"taken": taken, "size": worker.pool_size, "queues": queues}
            bench.told = told % numbers


def _body(task: Any, worker: Any, kind: Any, user: Any) -> dict[str, Any]:
    return {
        "task": task,
        "url": admin_url("taskcontrol_tasklog_change", task.pk),
        "label": visible(task.job_name),
        "type": _type(task, kind, user),
        "arguments": short_arguments(task, masked=not user.has_perm(SENSITIVE)),
        "document": visible(f"{task.document_type} {task.document_name}".strip()),
        "by": person(task.creator, task.created_by_id),
        "badge": status_badge(task.status, occupies=task.occupies),
        "told_to_stop": _told_to_stop(task),
        "age": span(task.started_at, task.read_at),
        "usual": _usual(kind),
        "unusual": _unusual(task, kind),
        "progress": progress_of(task),
        "memory": memory_of_process(worker, task.pid),
        "may_cancel": CANCEL_VERB.fits(task) and _may_cancel(task, kind, user),
    }


def _type(task: Any, kind: Any, user: Any) -> SafeString | str:
    if kind is None or not user.has_perm("taskcontrol.view_tasktype"):
        return visible(task.method)
    return link(admin_url("taskcontrol_tasktype_change", kind.pk), task.method)


def short_arguments(task: Any, *, masked: bool) -> str:
    """Return the arguments of a row of this page in one line, without what is secret."""
    if task.given is None:
        return _("arguments of %(size)s characters") % {"size": f"{task.size:,}"}
    try:
        given = decode(task.given)
    except Exception:  # noqa: BLE001 - a row written by another version must still be seen
        given = task.given
    if masked:
        given = without_secrets(given)
    if not isinstance(given, dict):
        return _shortened(repr(given))
    return _shortened(", ".join(f"{key}={_plain(value)}" for key, value in given.items()))


def _plain(value: Any) -> str:
    return MASK if value == MASK else repr(value)


def _shortened(text: str) -> str:
    return visible(text if len(text) <= MOST_TOLD else f"{text[: MOST_TOLD - 1]}…")


def _told_to_stop(task: Any) -> SafeString | str:
    if task.status == Status.STARTED:
        return ""
    return ago(task.cancel_requested_at or task.ended_at, task.read_at)


def _usual(kind: Any) -> str:
    known = kind.usual_seconds if kind is not None else None
    return "" if known is None else duration(known)


def _unusual(task: Any, kind: Any) -> str:
    """Return how many times as long as usual it takes, if that is worth a look."""
    usual = kind.usual_seconds if kind is not None else None
    if not usual or task.started_at is None:
        return ""
    age = (task.read_at - task.started_at).total_seconds()
    if age < usual * UNUSUAL or task.read_at - task.started_at < seconds(LEAST_UNUSUAL):
        return ""
    return _("%(times)s times the usual") % {"times": f"{age / usual:,.0f}"}


def _may_cancel(task: Any, kind: Any, user: Any) -> bool:
    """The same as ``permissions.may``, of what the page has read already."""
    if user.has_perm(CANCEL):
        return True
    right = (
        TaskType.default_of("owner_may_cancel") if kind is None else kind.owner_may_cancel
    )
    return bool(right) and user.is_active and task.created_by_id == user.pk


def _list_url(**asked: str) -> str:
    return admin_url("taskcontrol_tasklog_changelist", **asked)
