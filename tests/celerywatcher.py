"""What a tool that watches Celery does: it connects itself in each child of a worker."""

from __future__ import annotations

from celery import signals
from celery.utils.log import get_task_logger

logger = get_task_logger(__name__)


@signals.worker_process_init.connect(weak=False)
def watch(**_signal):
    signals.task_prerun.connect(see, weak=False)


def see(task, args, **_signal):
    logger.info("seen: %s%s", task.name, args)
