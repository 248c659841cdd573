"""Tells how far the clock of this machine is from the database's, which alone decides."""

from __future__ import annotations

from django.utils import timezone

from .dialect import now


def seconds_ahead(using: str) -> float:
    """Return by how many seconds this machine's clock is ahead; negative when behind.

    True to half of what the question takes.
    """
    before = timezone.now()
    at = now(using)
    return round(float(((timezone.now() - before) / 2 + before - at).total_seconds()), 3)
