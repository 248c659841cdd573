"""Tells of each committed change of status, in order, everybody who wants to hear of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import F, Q

from . import context, crashpoints, events
from .conf import conf
from .dialect import DatabaseNow
from .models import Announcement, TaskEvent, TaskLog, seconds
from .prepared import PreparedQuery

logger = logging.getLogger("taskcontrol")

#: Seconds after which a news that somebody took counts as dropped by him.
TELLING_TAKES = 60.0
#: How often a news is told again after the process that told it was ended over it.
MOST_TELLINGS = 5

#: Tells one listener of a task one news of it.
Teller = Callable[[TaskLog, Announcement], None]

#: Who tell of the tasks that are ``heard``, beside the receivers of the signal, who hear of
#: all: rooms that have listeners add themselves in ``apps.ready``. What a teller raises is
#: logged, and what it does may be done twice.
TELLERS: list[Teller] = []


def announce(
    tasks: Iterable[TaskLog], old: str, new: str, *, message: Any = None, error: str = ""
) -> None:
    """Announce that ``tasks`` moved from ``old`` to ``new``, after the commit.

    ``tasks`` carry ``pk``, ``rev``, ``heard``, and ``retry_at`` if they may have one. The
    news is stored in the transaction of the move and deleted when it was told: by this
    process after the commit, or, where user code must not run, by a worker's child. What
    nobody hears of is not stored.
    """
    everything = anyone_listens()
    news = [
        Announcement(
            task_id=task.pk,
            rev=task.rev,
            old=old,
            new=new,
            message=message,
            error=error,
            retry_due=task.__dict__.get("retry_at") is not None,
        )
        for task in tasks
        if everything or task.heard
    ]
    if not news:
        return
    Announcement.objects.bulk_create(news)
    if context.user_code_may_run():
        ids = [one.task_id for one in news]
        transaction.on_commit(
            partial(deliver_stored, ids), using=conf.DATABASE, robust=True
        )


def anyone_listens() -> bool:
    """Return whether receivers in this process hear of the changes of every task.

    Without one, the change of a task that is not ``heard`` costs nothing.
    """
    return events.task_status_changed.has_listeners(TaskLog)


def deliver_stored(task_ids: Collection[int] | None = None, limit: int = 500) -> int:
    """Tell the stored news, oldest first, of all or of some tasks; return how many were told.

    A news is told by one process at a time, and not before the earlier ones of its task. It
    is deleted after its receivers ran, so a crash between tells it again. No telling begins
    later than ``TELLING_TAKES`` seconds after the call.
    """
    until = time.monotonic() + TELLING_TAKES
    rows = Announcement.objects.order_by("id")
    if task_ids is not None:
        rows = rows.filter(task_id__in=task_ids)
    told = 0
    # Again until nothing is left: a receiver may have moved its task on.
    while told < limit:
        now = sum(_tell_if_free(news, until) for news in rows[: limit - told])
        if not now:
            break
        told += now
    return told


def _tell_if_free(news: Announcement, until: float) -> int:
    crashpoints.reached("news.stored")
    if time.monotonic() > until or not _take(news):
        return 0
    stored = Announcement.objects.filter(pk=news.pk)
    try:
        crashpoints.reached("news.taken")
        if news.tellings < MOST_TELLINGS:
            _tell(news)
        else:
            _give_up(news)
    except BaseException:
        stored.update(taken_at=None)
        raise
    crashpoints.reached("news.told")
    stored.delete()
    return 1


def has_stored() -> bool:
    """Return whether stored news wait for somebody to tell them."""
    return bool(_STORED.rows(conf.DATABASE))


def _take(news: Announcement) -> bool:
    """Take a news for telling, unless an earlier one of its task is still to be told."""
    earlier = Announcement.objects.filter(task_id=news.task_id, rev__lt=news.rev)
    if earlier.exists():
        return False
    mine = Announcement.objects.filter(_free(), pk=news.pk)
    return bool(mine.update(taken_at=DatabaseNow(), tellings=F("tellings") + 1))


def _free() -> Q:
    return Q(taken_at=None) | Q(taken_at__lt=DatabaseNow() - seconds(TELLING_TAKES))


_STORED = PreparedQuery(lambda: Announcement.objects.filter(_free()).values_list("pk")[:1])


def _give_up(news: Announcement) -> None:
    """A listener that ends its process, or never comes to an end, would go on for ever."""
    detail = (
        f"{news.old} -> {news.new} was told {news.tellings} times, and who heard it ended "
        "the process or took more than a minute; it is not told again."
    )
    logger.error("Task %s: %s", news.task_id, detail)
    TaskEvent.objects.create(
        task_id=news.task_id, kind=TaskEvent.Kind.CALLBACK, detail=detail
    )


def _tell(news: Announcement) -> None:
    task = TaskLog.objects.filter(pk=news.task_id).first()
    if task is None:
        return
    _tell_receivers(task, news)
    for tell in TELLERS if task.heard else ():
        try:
            tell(task, news)
        except Exception:
            logger.exception(
                "Task %s: %s.%s failed at the news %s -> %s.",
                task.pk,
                tell.__module__,
                tell.__name__,
                news.old,
                news.new,
            )


def _tell_receivers(task: TaskLog, news: Announcement) -> None:
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
