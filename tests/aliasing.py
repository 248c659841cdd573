"""Names that this module has from others, as views and ``__init__`` files have them."""

from __future__ import annotations

from tests.models import Paper
from tests.tasks import celery_task_open_to_all, nothing, open_to_all

again = open_to_all
sign = Paper.sign

__all__ = ["again", "celery_task_open_to_all", "nothing", "open_to_all", "sign"]
