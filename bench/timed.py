"""The site's Celery app, whose workers also write down how long each dispatch pass takes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from celery.signals import worker_init

from project.celery import app

__all__ = ["app"]

#: A pass that finds nothing waiting is not one of which this is about.
PATH = Path(os.environ["TASKCONTROL_BENCH_PASSES"])


def timed(make_pass: Callable[[], Any]) -> Callable[[], Any]:
    """Return the pass with a line in the file for each that promotes something."""

    @wraps(make_pass)
    def call(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        done = make_pass(*arguments, **options)
        if done.promoted:
            with PATH.open("a") as file:
                file.write(f"{time.perf_counter() - began}\n")
        return done

    return call


@worker_init.connect(weak=False)
def watch(**_facts: Any) -> None:
    """Put the timed pass wherever the worker calls it by name."""
    from taskcontrol import dispatch

    plain = dispatch.make_pass
    for module in [
        one for name, one in sys.modules.items() if name.startswith("taskcontrol")
    ]:
        if getattr(module, "make_pass", None) is plain:
            module.make_pass = timed(plain)  # type: ignore[attr-defined]
