"""What a worker's main process tells of itself: what it costs, its children, its versions."""

from __future__ import annotations

import platform
from typing import Any

import psutil


def costs(process: psutil.Process) -> dict[str, Any]:
    """Return the memory and processor time of a worker's main process, and of its children."""
    return {
        "memory_kb": process.memory_info().rss // 1024,
        "cpu_percent": process.cpu_percent(),
        "children": _children(process),
    }


def _children(process: psutil.Process) -> list[dict[str, int]]:
    return [
        {"pid": child.pid, "memory_kb": child.memory_info().rss // 1024}
        for child in process.children()
        if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
    ]


def versions() -> dict[str, str]:
    """Return the versions of what runs here."""
    import celery
    import django

    from . import __version__

    return {
        "python": platform.python_version(),
        "django": django.get_version(),
        "celery": celery.__version__,
        "taskcontrol": __version__,
    }
