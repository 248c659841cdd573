"""Signs of life of Celery beat: a silent beat is visible."""

from __future__ import annotations

from datetime import timedelta

from . import dialect
from .conf import conf
from .dialect import DatabaseNow
from .models import DispatcherState
from .suspension import dispatcher_state

#: Seconds after which beat counts as silent.
SILENT_AFTER = 60.0


def beat_was_here() -> None:
    """Note that beat sent something just now."""
    dispatcher_state()
    DispatcherState.objects.filter(pk=DispatcherState.THE_ONE).update(
        beat_seen_at=DatabaseNow()
    )


def beat_is_silent() -> bool:
    """Return whether beat has said nothing for ``SILENT_AFTER`` seconds, or never."""
    seen = dispatcher_state().beat_seen_at
    return seen is None or dialect.now(conf.DATABASE) - seen > timedelta(
        seconds=SILENT_AFTER
    )
