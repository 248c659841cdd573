"""A small real site that runs taskcontrol: ``celery -A project worker``."""

from __future__ import annotations

from .celery import app as celery_app

__all__ = ["celery_app"]
