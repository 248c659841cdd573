"""Where a batch stands: whether anything is still to come, and what holds it."""

from __future__ import annotations

from typing import Any

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..models import TaskBatch
from ..status import Status
from .presentation import badge


def is_over(batch: Any) -> bool:
    """Return whether every member has ended; one without members may not have begun."""
    begun = batch.total > 0 or batch.ended_at is not None
    return bool(begun and batch.numbers["done"] >= batch.total)


def is_held(batch: Any) -> bool:
    """Return whether some tasks wait until the batch is resumed."""
    return batch.paused_at is not None or bool(batch.numbers[Status.PAUSED])


def state_of(batch: Any) -> SafeString:
    """Return whether anything is still to come, as a badge."""
    if not is_over(batch):
        return badge(*_going_on(batch))
    if batch.canceled_at is not None:
        return badge(_("canceled"), "canceled")
    if batch.numbers[Status.FAILED] or batch.numbers[Status.CANCELED]:
        return badge(_("ended, not all well"), "failed")
    return badge(_("ended"), "finished")


def _going_on(batch: Any) -> tuple[str, str]:
    if batch.paused_at is not None:
        return _("paused"), "paused"
    if not batch.total:
        return _("no tasks yet"), "pending"
    holds = batch.on_failure == TaskBatch.OnFailure.HOLD and batch.numbers[Status.FAILED]
    if holds and batch.numbers[Status.PAUSED]:
        return _("held back"), "paused"
    return _("going on"), "started"
