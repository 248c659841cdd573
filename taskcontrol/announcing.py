"""Tells receivers of ``task_status_changed`` of each committed change, in order."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

from django.db import transaction

from . import context, events
from .conf import conf
from .models import Announcement, TaskLog

logger = logging.getLogger("taskcontrol")


def announce(
    tasks: Iterable[TaskLog], old: str, new: str, *, message: Any = None, error: str = ""
) -> None:
    """Announce that ``tasks`` moved from ``old`` to ``new``, after the commit.

    ``tasks`` carry ``pk`` and ``rev``. Where user code must not run, the news is stored in
    the same transaction and a worker's child delivers it.
    """
    if not anyone_listens():
        return
    news = [
        Announcement(
            task_id=task.pk, rev=task.rev, old=old, new=new, message=message, error=error
        )
        for task in tasks
    ]
    if context.user_code_may_run():
        transaction.on_commit(
            partial(_tell_in_order, news), using=conf.DATABASE, robust=True
        )
    else:
        Announcement.objects.bulk_create(news)


def anyone_listens() -> bool:
    """Return whether a change of status has a receiver at all; without one it costs nothing."""
    return events.task_status_changed.has_listeners(TaskLog)


def deliver_stored(limit: int = 500) -> int:
    """Tell the stored news, oldest first; return how many were told.

    A news is deleted after its receivers ran, so a crash between tells it again.
    """
    stored = list(Announcement.objects.order_by("id")[:limit])
    for news in stored:
        _tell(news)
        Announcement.objects.filter(pk=news.pk).delete()
    return len(stored)


def has_stored() -> bool:
    """Return whether stored news wait to be told."""
    return Announcement.objects.exists()


def _tell_in_order(news: list[Announcement]) -> None:
    ids = [one.task_id for one in news]
    for earlier in Announcement.objects.filter(task_id__in=ids).order_by("task_id", "rev"):
        _tell(earlier)
        Announcement.objects.filter(pk=earlier.pk).delete()
    for one in news:
        _tell(one)


def _tell(news: Announcement) -> None:
    task = TaskLog.objects.filter(pk=news.task_id).first()
    if task is None:
        return
    answers = events.task_status_changed.send_robust(
        sender=TaskLog,
        task=task,
        old=news.old,
        new=news.new,
        message=news.message,
        error=news.error or None,
    )
    for receiver, answer in answers:
        if isinstance(answer, Exception):
            logger.error(
                "Receiver %r of task_status_changed failed for task %s (%s -> %s).",
                receiver,
                news.task_id,
                news.old,
                news.new,
                exc_info=answer,
            )
