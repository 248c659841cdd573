"""Draws how long the last runs of a type took, small enough to stand in a line of text."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..models import TaskLog
from ..permissions import VIEW
from ..status import Status
from ..wording import duration

#: Runs that are drawn, the newest.
MOST_RUNS = 30
#: Units of the drawing: a bar with its gap, a bar, all of it.
STEP, WIDTH, HEIGHT = 3, 2, 20.0
#: The least height of a bar.
LEAST = 1.0


def sparkline_of(task: TaskLog, user: Any) -> SafeString | str:
    """Return the last finished runs of the type of ``task``, this one in another color.

    Empty where there are too few, and for those who do not see the tasks of others.
    """
    runs = _runs(task.method) if user.has_perm(VIEW) else []
    if len(runs) < 2:
        return ""
    times = [time.total_seconds() for _key, time in runs]
    most = max(*times, 0.001)
    between = _("%(least)s to %(most)s") % {
        "least": duration(min(times)),
        "most": duration(max(times)),
    }
    told = _("The last %(number)s runs of its type, the newest last: %(between)s") % {
        "number": len(runs),
        "between": between,
    }
    own = dict(runs).get(task.pk)
    if own is not None:
        told += _(", this one %(time)s") % {"time": duration(own.total_seconds())}
    return format_html(
        '<svg width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img" aria-label="{2}">'
        '{3}</svg> <span class="tc-quiet">{4}</span>',
        len(runs) * STEP,
        int(HEIGHT),
        told,
        _bars(runs, most, task.pk),
        between,
    )


def _runs(method: str) -> list[tuple[int, timedelta]]:
    """Return key and time of the last runs, the oldest first: the end of an index."""
    ended = TaskLog.objects.filter(
        method=method, status=Status.FINISHED, ended_at__isnull=False
    )
    newest = ended.order_by("-ended_at").values_list("pk", "time_taken")[:MOST_RUNS]
    return [(key, time or timedelta()) for key, time in reversed(newest)]


def _bars(runs: list[tuple[int, timedelta]], most: float, own: int) -> SafeString:
    bars = []
    for place, (key, time) in enumerate(runs):
        height = max(round(time.total_seconds() / most * HEIGHT, 1), LEAST)
        kind = "started" if key == own else "finished"
        bars.append((kind, place * STEP, HEIGHT - height, WIDTH, height))
    rect = '<rect class="tc-fill-{}" x="{}" y="{}" width="{}" height="{}"/>'
    return format_html_join("", rect, bars)
