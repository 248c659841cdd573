"""The Celery tasks: thin shells with fixed names around the rooms below."""

from __future__ import annotations

from functools import partial
from typing import Any

from celery import Task, shared_task

from . import (
    announcing,
    beating,
    broker,
    claims,
    dispatch,
    execution,
    firing,
    pruning,
    rescue,
    resending,
    rollup,
)
from .retries import retry_failed_tasks


class OurTask(Task):
    """A task of ours: a child that runs out of memory at it ends no worker."""

    abstract = True
    Request = "taskcontrol.held:Sturdy"


class RunTask(OurTask):
    """The task that carries all others; its requests tell which child holds what."""

    abstract = True
    Request = "taskcontrol.held:HeldRequest"


@shared_task(
    name=broker.RUN,
    base=RunTask,
    bind=True,
    ignore_result=True,
    acks_late=False,
    max_retries=0,
)
def run(self: Any, task_id: int, attempt: int) -> None:
    """Run one attempt of one task; ``task_prerun`` has claimed it, unless it failed to."""
    with claims.of(self.request, task_id, attempt) as row:
        if row is not None:
            execution.run_claimed(row, keep=partial(claims.keep, self.request))


@shared_task(
    base=OurTask,
    name=broker.DELIVER,
    ignore_result=True,
    time_limit=2 * announcing.TELLING_TAKES,
)
def deliver() -> int:
    """Tell receivers what happened where their code must not run."""
    return announcing.deliver_stored()


@shared_task(base=OurTask, name="taskcontrol.dispatch", ignore_result=True)
def dispatch_pending() -> int:
    """Make a dispatch pass from beat, whose sign of life this is."""
    beating.beat_was_here()
    return dispatch.dispatch_pending()


@shared_task(base=OurTask, name="taskcontrol.retry_failed", ignore_result=True)
def retry_failed() -> int:
    """Retry what is due, from beat."""
    return retry_failed_tasks()


@shared_task(base=OurTask, name="taskcontrol.resend", ignore_result=True)
def resend() -> int:
    """Send again what nobody claimed, from beat."""
    return resending.resend_unclaimed()


@shared_task(base=OurTask, name="taskcontrol.rescue", ignore_result=True)
def rescue_lost() -> int:
    """Rescue the tasks of lost workers, from beat."""
    return rescue.rescue_lost_tasks()


@shared_task(base=OurTask, name="taskcontrol.roll_up", ignore_result=True)
def roll_up() -> int:
    """Count what ended, from beat: here nothing waits while long downtime is caught up with."""
    return rollup.roll_up(seconds=10.0)


@shared_task(base=OurTask, name="taskcontrol.prune", ignore_result=True)
def prune() -> int:
    """Delete what is older than the retention, from beat."""
    return pruning.prune_ended_tasks()


@shared_task(base=OurTask, name=broker.SCHEDULES, ignore_result=True)
def fire_schedules() -> int:
    """Make the tasks of the schedules whose time has come, from beat and from workers."""
    return firing.fire_due_schedules()


@shared_task(base=OurTask, name=broker.ENQUEUE, ignore_result=True)
def knock(*_args: Any, **_kwargs: Any) -> int:
    """Take what beat sends at the time of a schedule: its row says whether it is due.

    The arguments are those of the row, which is read again; a second knock does nothing.
    """
    return firing.fire_due_schedules()
