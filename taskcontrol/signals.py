"""Celery's signals translated into moves: one guarded, idempotent receiver for each.

A signal can neither stop a task nor promise to come once, so each receiver is one lifecycle
call under (status, attempt), and the sweeps do the same again when a signal was lost.
``ARCHITECTURE.md`` has the table: signal, process, arrow.
"""

from __future__ import annotations

import logging
from functools import partial
from importlib import import_module
from typing import Any

from billiard.exceptions import TimeLimitExceeded
from celery import signals

from . import (
    bell,
    broker,
    claims,
    ends,
    execution,
    held,
    interrupts,
    lifecycle,
    losses,
    prefork,
    reconnecting,
)
from .conf import conf
from .models import TaskLog
from .status import Status
from .worker import Boot, declare_queues

logger = logging.getLogger("taskcontrol")

_boot: Boot | None = None


def _is_ours(sender: Any) -> bool:
    return bool(getattr(sender, "name", sender) == broker.RUN)


# In a worker's child -------------------------------------------------------------------


@signals.worker_process_init.connect(weak=False)
def on_worker_process_init(**_signal: Any) -> None:
    """A child begins: it takes the cancel signal."""
    interrupts.install()


@signals.task_prerun.connect(weak=False)
def on_task_prerun(sender: Any, task: Any, args: Any, **_signal: Any) -> None:
    """Queued -> Started, unless somebody was faster; the body asks for the answer."""
    if _is_ours(sender):
        claims.make(task.request, *args)


@signals.task_success.connect(weak=False)
def on_task_success(sender: Any, result: Any, **_signal: Any) -> None:
    """Started -> Finished, if the body could not write it."""
    if _is_ours(sender):
        claims.write_missing_end(sender.request, ends.Outcome(value=result))


@signals.task_retry.connect(weak=False)
def on_task_retry(sender: Any, request: Any, reason: Any = None, **_signal: Any) -> None:
    """Started -> Pending, uncounted: Celery took the task back, as in a cold shutdown.

    Its body has just been told to go, and may take its time.
    """
    if _is_ours(sender):
        _later(partial(losses.give_back_by_key, *request.args))


@signals.task_postrun.connect(weak=False)
def on_task_postrun(sender: Any, task: Any, **_signal: Any) -> None:
    """Started -> its end, if neither the body nor another signal wrote it; or else Failed.

    Nothing comes after it: a row that is still Started then is found by the keeper.
    """
    if not _is_ours(sender):
        return
    error = RuntimeError("The task ended without a word; its worker's log says more.")
    try:
        claims.write_missing_end(task.request, ends.Outcome(error=error))
    finally:
        held.end_here()


@signals.task_internal_error.connect(weak=False)
def on_task_internal_error(
    sender: Any, exception: BaseException, request: Any, **_signal: Any
) -> None:
    """Started -> Failed: an error outside the body."""
    if _is_ours(sender):
        row = TaskLog.objects.filter(celery_task_id=_id_of(request)).first()
        if row is not None and row.status == Status.STARTED:
            ends.write_end(row, ends.Outcome(error=exception))


# In a child, or in the main process for a child that could not --------------------------


@signals.task_failure.connect(weak=False)
def on_task_failure(
    sender: Any, exception: BaseException, args: Any, **_signal: Any
) -> None:
    """Started -> Failed or Pending, or the end that the body came to and could not write.

    Comes from the main process for a lost child and for a hard time limit (then twice,
    before the child is dead); bodies that run in that process itself have no child.
    """
    if not _is_ours(sender):
        return
    if _boot is not None and _boot.prefork and interrupts.in_main_process():
        lookout, (task_id, attempt) = _boot.lookout, args
        if isinstance(exception, TimeLimitExceeded):
            _boot.keeper.do(partial(lookout.timed_out, task_id, attempt))
        else:
            _boot.keeper.do(partial(lookout.process_lost, task_id, attempt, str(exception)))
        return
    claims.write_missing_end(sender.request, ends.Outcome(error=exception))


# In the main process --------------------------------------------------------------------


@signals.task_revoked.connect(weak=False)
def on_task_revoked(
    sender: Any,
    request: Any,
    terminated: bool,  # noqa: FBT001 - Celery's signature
    **_signal: Any,
) -> None:
    """Queued -> Canceled: somebody revoked the message in Celery, past the ledger.

    A terminated one says nothing sure: the child's end, or its loss, is told elsewhere.
    """
    if _is_ours(sender) and not terminated:
        _later(partial(_cancel_revoked, _id_of(request)))


def _cancel_revoked(celery_task_id: str) -> None:
    row = TaskLog.objects.filter(
        celery_task_id=celery_task_id, status=Status.QUEUED
    ).first()
    if row is not None:
        lifecycle.cancel(row, reason="revoked through Celery")


@signals.task_unknown.connect(weak=False)
def on_task_unknown(name: str, id: str, **_signal: Any) -> None:  # noqa: A002 - Celery's signature
    """Queued -> Pending: this worker does not know our task, another may."""
    if name == broker.RUN:
        _later(partial(_take_back, id, "a worker does not have taskcontrol installed"))


@signals.task_rejected.connect(weak=False)
def on_task_rejected(message: Any, **_signal: Any) -> None:
    """Queued -> Pending: the message was spoilt on its way."""
    celery_task_id = (getattr(message, "headers", None) or {}).get("id")
    if celery_task_id:
        _later(partial(_take_back, celery_task_id, "its message was spoilt on the way"))


def _take_back(celery_task_id: str, why: str) -> None:
    row = TaskLog.objects.filter(
        celery_task_id=celery_task_id, status=Status.QUEUED
    ).first()
    if row is not None:
        lifecycle.unsend([(row.pk, row.attempt)], detail=why)
        bell.ring()


@signals.worker_init.connect(weak=False)
def on_worker_init(sender: Any, **_signal: Any) -> None:
    """A worker's main process begins: its children inherit the bell."""
    bell.open_in_worker()
    interrupts.mark_main_process()
    execution.here.in_worker = True
    sender.app.steps["consumer"].add(reconnecting.PoolCare)
    if sender.consumer_cls == reconnecting.DEFAULT_CONSUMER:
        sender.consumer_cls = reconnecting.SoonBack
    if conf.DECK and sender.pool_cls in prefork.CELERYS_OWN:
        import_module(".serving", __package__)  # what the children do with their lines
        sender.pool_cls = prefork.TaskPool
    declare_queues(sender.app)


@signals.worker_ready.connect(weak=False)
def on_worker_ready(sender: Any, **_signal: Any) -> None:
    """The worker takes tasks: its row, its dispatcher and its keeper begin."""
    global _boot
    _warn_of_autoscale(sender.controller.autoscale)
    _boot = Boot(sender)
    _boot.start()


def _warn_of_autoscale(limits: Any) -> None:
    """Celery adds a child for messages that wait in a worker, where ours never do."""
    if limits:
        logger.warning(
            "--autoscale=%s,%s adds no child for tasks of taskcontrol: each is sent only to a "
            "child that is free, and Celery adds one only for what waits in the worker. Start "
            "this worker with --concurrency=%s instead.",
            *limits,
            limits[0],
        )


@signals.worker_shutting_down.connect(weak=False)
def on_worker_shutting_down(**_signal: Any) -> None:
    """The worker is told to go; this runs in a Unix signal handler, so it only notes it."""
    if _boot is not None:
        _boot.leave()


@signals.worker_shutdown.connect(weak=False)
def on_worker_shutdown(**_signal: Any) -> None:
    """The worker has gone: what it still held is given back."""
    if _boot is not None:
        _boot.stop()


def _later(errand: Any) -> None:
    """Do it in the keeper's thread: the event loop must not wait for a database."""
    if _boot is not None and interrupts.in_main_process():
        _boot.keeper.do(errand)
    else:
        errand()


def _id_of(request: Any) -> str:
    return str(request["id"] if isinstance(request, dict) else request.id)
