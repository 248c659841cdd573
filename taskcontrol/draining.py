"""What a person does to a worker: ask whether it answers, and let it leave."""

from __future__ import annotations

from typing import Any

from . import broker
from .bell import request_dispatch
from .dialect import DatabaseNow
from .exceptions import NotPermitted
from .models import Worker

PERMISSION = "taskcontrol.control_worker"


def ping_worker(worker: Worker, *, user: Any = None) -> float | None:
    """Ask a worker through Celery whether it takes commands; return after how many seconds.

    None when it gave no answer in ``PING_TIMEOUT`` seconds: it is gone, cut off from the
    broker, hung, or busy in a solo pool. Raises BrokerUnavailable. ``user`` needs the
    permission ``control_worker``, else PermissionError; without a user the system acts.
    """
    _require(user, worker, "ping")
    return broker.ping(worker.hostname)


def drain_worker(worker: Worker, *, user: Any = None) -> bool:
    """Let a worker finish what it runs and end; return False when it leaves or left already.

    From this call on nothing more is sent for its slots. Its main process reads its row at
    its next sign of life and begins Celery's warm shutdown; this needs no broker. What
    starts it may start it again. Permission as for ``ping_worker``.
    """
    _require(user, worker, "drain")
    there = Worker.objects.filter(pk=worker.pk, left_at=None, lost_at=None)
    told = there.filter(leaving_at=None).update(leaving_at=DatabaseNow())
    request_dispatch()
    return bool(told)


def _require(user: Any, worker: Worker, verb: str) -> None:
    if user is not None and not user.has_perm(PERMISSION):
        raise NotPermitted(user, PERMISSION, f"{verb} worker {worker.hostname}")
