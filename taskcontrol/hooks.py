"""The site's own functions before and after each body: ``BEFORE_JOB`` and ``AFTER_JOB``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from . import offers
from .conf import conf

logger = logging.getLogger("taskcontrol")

#: What a hook sees as ``transaction_type``: it runs for a task and for no request.
JOB = "job"


def before(method: str, arguments: Mapping[str, Any]) -> None:
    """Call the hooks before a body; one that raises fails the task, whose body stays out."""
    for path in conf.BEFORE_JOB:
        given = {"method": method, "kwargs": dict(arguments), "transaction_type": JOB}
        offers.call(path, given)


def after(method: str, arguments: Mapping[str, Any], result: Any) -> None:
    """Call the hooks after an end; one that raises is logged and changes nothing."""
    for path in conf.AFTER_JOB:
        try:
            given = {"method": method, "kwargs": dict(arguments), "result": result}
            offers.call(path, given)
        except Exception:
            logger.exception("The hook %s of AFTER_JOB failed after %s.", path, method)
