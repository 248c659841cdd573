"""Acts on all tasks that a list matches, as a task that runs as the person and tells how far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.contrib.admin.sites import all_sites
from django.db.models import Q
from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext as _

from ..audit import perform
from ..brief import brief
from ..context import current_task
from ..exceptions import Discard
from ..models import TaskLog
from ..status import TERMINAL, Status
from .background import enqueue_for
from .matches import count_by
from .presentation import status_badge
from .tasklists import UNTIL
from .taskverbs import (
    CANCEL,
    ERASE,
    PAUSE,
    RESUME,
    RETRY,
    RETRY_NOW,
    TO_FRONT,
    Verb,
    act_on_all,
    in_the_way,
    told,
)

#: Tasks that are counted before a person is asked.
MOST_COUNTED = 100_000
#: Tasks that are read at once.
PAGE = 200
#: Seconds that one such task may take.
TIMEOUT = 86_400

VERBS = {
    verb.name: verb for verb in (CANCEL, RETRY, RETRY_NOW, PAUSE, RESUME, TO_FRONT, ERASE)
}


class Kind(NamedTuple):
    """What an act looks at of a task, to say whether it fits."""

    status: Status
    retry_at: bool
    occupies: bool

    @property
    def ended(self) -> bool:
        """As that of a task."""
        return self.status in TERMINAL and not self.retry_at


@dataclass
class Line:
    """What would become of the tasks in one status."""

    status: Status
    fitting: int = 0
    left: int = 0

    @property
    def cells(self) -> list[Any]:
        """The status, and the numbers as they are read."""
        return [status_badge(self.status), f"{self.fitting:,}", f"{self.left:,}"]


@dataclass(frozen=True)
class Forecast:
    """What an act would do, counted before it is done."""

    lines: list[Line]
    #: Whether there are more than were counted.
    is_more: bool = False

    @property
    def number(self) -> str:
        """How many tasks were counted, as it is read."""
        number = self.fitting + sum(line.left for line in self.lines)
        return f"{min(number, MOST_COUNTED):,}"

    @property
    def to_do(self) -> str:
        """How many the act fits, as it is read."""
        return f"{self.fitting:,}"

    @property
    def fitting(self) -> int:
        """How many of them the act fits."""
        return sum(line.fitting for line in self.lines)


def forecast(verb: Verb, rows: Any) -> Forecast:
    """Return what ``verb`` would do to ``rows``; one statement, counted up to a bound."""
    rows = rows.order_by().annotate(tc_due=Q(retry_at__isnull=False))
    found = count_by(rows, "status", "tc_due", "occupies", most=MOST_COUNTED)
    lines = {status: Line(status) for status in Status}
    for (status, due, occupies), number in found.items():
        kind: Any = Kind(Status(status), bool(due), bool(occupies))
        if verb.fits(kind):
            lines[kind.status].fitting += number
        else:
            lines[kind.status].left += number
    shown = [line for line in lines.values() if line.fitting or line.left]
    return Forecast(shown, is_more=sum(found.values()) > MOST_COUNTED)


def start(
    verb: Verb, user: Any, *, query: str, until: datetime, reason: str, site: str
) -> TaskLog:
    """Store the task that acts as ``user`` on all that ``query`` matches, and return it.

    It goes before all others that wait, since it may be meant for them.
    """
    with brief():
        task = enqueue_for(
            user,
            act_on_matching,
            {
                "verb": verb.name,
                "query": query,
                "until": until,
                "reason": reason,
                "site": site,
            },
            job_name=_("%(verb)s: all that match") % {"verb": verb.label},
            timeout=TIMEOUT,
        )
        told = f"Started for all tasks that match {query or 'everything'}"
        perform(user, task, lambda: f"{told}: {reason}" if reason else f"{told}.")
    return task


def act_on_matching(verb: str, query: str, until: datetime, reason: str, site: str) -> str:
    """Act on the tasks created ``until`` then that a list with this query shows the person.

    The body of a task: page by page, the newest first, each task a transaction of its own
    in which the person's permission is asked. Returns "38 canceled, 2 already finished."
    """
    task = current_task()
    user = None if task is None else task.user
    if task is None or user is None:
        raise Discard("Tasks are acted on as a person, and nobody started this one.")
    chosen, outcomes = VERBS[verb], Counter[str]()
    rows = _matching(query, user, site, until)
    total = rows.count()
    for row in _pages(rows, task):
        if chosen.fits(row):
            outcomes += act_on_all(chosen, [row], user, reason)
        else:
            outcomes[in_the_way(chosen, row.status)] += 1
        said = {"count": outcomes.total(), "total": total}
        task.report({"progress": {**said, "description": told(outcomes, chosen)}})
    return told(outcomes, chosen)


def _matching(query: str, user: Any, site: str, until: datetime) -> Any:
    """Return what the list at this address showed ``user`` then."""
    request = HttpRequest()
    request.method, request.GET, request.user = "GET", QueryDict(query), user
    setattr(request, UNTIL, until)
    found = next((one for one in all_sites if one.name == site), None)
    if found is None:
        raise Discard(f"There is no admin site {site!r} in this process.")
    table: Any = found.get_model_admin(TaskLog).get_changelist_instance(request)
    return table.queryset.select_related(None)


def _pages(rows: Any, task: Any) -> Iterator[TaskLog]:
    """Yield ``rows`` from the newest on: a place in their order, whatever moves meanwhile."""
    some = rows.order_by("-pk")
    while page := list(some[:PAGE]):
        task.check_canceled()
        yield from page
        some = rows.order_by("-pk").filter(pk__lt=page[-1].pk)
