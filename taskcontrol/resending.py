"""Sends again what was sent and never claimed: messages that the broker lost."""

from __future__ import annotations

import logging

from django.db.models import F

from . import broker, crashpoints, lifecycle
from .brief import brief
from .conf import conf
from .context import without_user_code
from .dialect import DatabaseNow, free_keys, update_returning
from .exceptions import BrokerUnavailable
from .history import record
from .models import TaskEvent, TaskLog, seconds
from .occupancy import idle_queues
from .status import Status

logger = logging.getLogger("taskcontrol")


def resend_unclaimed() -> int:
    """Send the overdue messages again; return how many.

    A message is overdue ``RESEND_AFTER`` seconds after it was sent, twice that after the
    next time, and so on, while a worker that consumes its queue has a free slot. After
    ``RESEND_LIMIT`` times the task goes back to Pending with the reason. A message that
    was not lost after all does no harm: the claim lets one of them run.
    """
    with without_user_code():
        overdue = _overdue()
        given_up = [task for task in overdue if task.sent_count >= conf.RESEND_LIMIT]
        lifecycle.unsend(
            [(task.pk, task.attempt) for task in given_up],
            detail=f"no worker claimed it after {conf.RESEND_LIMIT} messages",
        )
        return _send_again([task.pk for task in overdue if task not in given_up])


def _overdue() -> list[TaskLog]:
    queues = idle_queues()
    if not queues:
        return []
    waits = [
        (count, DatabaseNow() - seconds(conf.RESEND_AFTER * 2**count))
        for count in range(conf.RESEND_LIMIT + 1)
    ]
    found: list[TaskLog] = []
    for count, before in waits:
        # Beyond the limit is what was sent so often before the limit was lowered.
        beyond = "__gte" if count == conf.RESEND_LIMIT else ""
        rows = TaskLog.objects.filter(
            occupies=True,
            status=Status.QUEUED,
            worker=None,
            queue__in=queues,
            sent_at__lt=before,
            **{f"sent_count{beyond}": count},
        )
        found += rows.only("attempt", "sent_count").order_by("pk")[: conf.SWEEP_PAGE]
    return found


def _take(ids: list[int]) -> list[TaskLog]:
    """Count another message for those that no other sweep sends and nobody is changing."""
    overdue = DatabaseNow() - seconds(conf.RESEND_AFTER)
    rows = TaskLog.objects.filter(
        pk__in=ids, status=Status.QUEUED, worker=None, sent_at__lt=overdue
    )
    with brief():
        free = free_keys(rows.order_by("pk"))
        counted = update_returning(
            TaskLog.objects.filter(pk__in=free),
            {
                "sent_at": DatabaseNow(),
                "sent_count": F("sent_count") + 1,
                "rev": F("rev") + 1,
            },
            ("attempt", "queue", "celery_task_id", "timeout", "sent_count"),
        )
        crashpoints.reached("resend.taken")
    return counted


def _send_again(ids: list[int]) -> int:
    if not ids:
        return 0
    crashpoints.reached("resend.found")
    again = _take(ids)
    crashpoints.reached("resend.counted")
    try:
        broker.publish(
            [
                broker.Message(t.pk, t.attempt, t.queue, str(t.celery_task_id), t.timeout)
                for t in again
            ]
        )
    except BrokerUnavailable as error:
        logger.warning("%s tasks could not be sent again: %s", len(again), error)
        return 0
    crashpoints.reached("resend.sent")
    record(again, TaskEvent.Kind.RESENT, detail="nobody claimed its message")
    return len(again)
