"""The front page of taskcontrol in admin: tasks by status, what is alive, what ended lately."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.http import HttpRequest

from ..counting import Capped, capped_count
from ..figures import Figures, all_types, figures_of
from ..flow import Flow
from ..models import DispatcherState
from ..permissions import VIEW, visible_to
from ..status import Status
from ..suspension import PERMISSION, dispatcher_state
from ..wording import duration
from .addresses import admin_url
from .charts import PERIODS, USUAL, Charts, charts_of, percent, times_of
from .dispatcher import switch_context
from .endings import ended_url
from .presentation import brief, status_badge, visible
from .queues import number_of, rates_of
from .signs import Present, present, signs_of
from .tabs import count_all

#: Who may look at the machinery.
OVERSEER = "taskcontrol.view_dispatcherstate"
#: Where a page that is open says which of its regions it wants again.
WANTED = "X-Taskcontrol-Regions"
#: Tasks of a status that a card counts; the page asks every few seconds.
MOST_COUNTED = 100_000
#: Types in each table.
MOST_TYPES = 5


def overview_for(request: HttpRequest) -> dict[str, Any]:
    """Return what the front page shows; without the permission the person's own tasks."""
    return Overview(request).context()


class Overview:
    """The front page for one request: each region costs only when it is wanted."""

    def __init__(self, request: HttpRequest) -> None:
        self.user: Any = request.user
        self.period = PERIODS.get(request.GET.get("period", ""), PERIODS[USUAL])
        self._wanted = set(request.headers.get(WANTED, "").split(",")) - {""}
        self.sees_all = self.user.has_perm(VIEW)
        self.oversees = (
            self.sees_all or self.user.has_perm(OVERSEER) or self.user.has_perm(PERMISSION)
        )

    def context(self) -> dict[str, Any]:
        """Return what the template takes; a region that is not wanted is not there."""
        found: dict[str, Any] = {"own": not self.sees_all, "signs": []}
        if self._wants("cards"):
            found["cards"] = [_card(*one) for one in self._numbers().items()]
        if self._wants("health"):
            found["switch"] = switch_context(self.user, self.state)
            if self.oversees:
                found["signs"] = signs_of(self.now, self.state, self.user)
        if self._wants("queues") and self.oversees:
            found["queues"] = [self._queue_row(one) for one in self.now.queues.values()]
        if self._wants("charts") and self.sees_all:
            found |= self._charts()
        return found

    def _wants(self, region: str) -> bool:
        return not self._wanted or region in self._wanted

    @cached_property
    def state(self) -> DispatcherState:
        """The dispatcher."""
        return dispatcher_state()

    @cached_property
    def now(self) -> Present:
        """The machinery at this moment."""
        return present()

    def _numbers(self) -> dict[Status, int]:
        if self.sees_all:
            numbers = count_all(MOST_COUNTED)
            return {status: numbers[status] for status in Status}
        mine = visible_to(self.user)
        return {status: capped_count(mine.filter(status=status)) for status in Status}

    def _queue_row(self, queue: Flow) -> dict[str, Any]:
        row = {
            "name": visible(queue.name),
            "depth": number_of(queue.depth),
            "running": number_of(queue.running + queue.stopping),
            "rates": rates_of(queue),
            "oldest": "" if queue.oldest_seconds is None else brief(queue.oldest_seconds),
            "workers": len(queue.workers),
            "slots": queue.slots,
            "paused": queue.name in self.now.paused,
            "unserved": queue.unserved,
        }
        if self.sees_all:
            row["url"] = _list_url(queue=queue.name)
            if queue.oldest_task is not None:
                oldest = queue.oldest_task
                row["oldest_url"] = admin_url("taskcontrol_tasklog_change", oldest)
        return row

    def _charts(self) -> dict[str, Any]:
        charts = charts_of(self.period)
        types = all_types(hours=self.period.hours)
        return {
            "charts": charts,
            "periods": PERIODS.values(),
            "counted_until": self.state.rolled_until,
            "failing": _failing(types, charts),
            "slowest": _slowest(types, charts),
        }


def _card(status: Status, number: int) -> dict[str, Any]:
    return {
        "badge": status_badge(status),
        "number": str(number) if isinstance(number, Capped) else f"{number:,}",
        "some": number > 0,
        "kind": status.lower(),
        "url": _list_url(status__exact=status),
    }


def _list_url(**query: str) -> str:
    return admin_url("taskcontrol_tasklog_changelist", **query)


# Types


@dataclass(frozen=True)
class TypeRow:
    """One type in a table, with where it leads."""

    method: str
    figures: Figures
    url: str
    failed_url: str
    percent: str
    mean: str
    run: tuple[str, str]


def _failing(types: dict[str, Figures], charts: Charts) -> list[TypeRow]:
    failed = [method for method in types if types[method].failed]
    failed.sort(key=lambda method: (-types[method].failed, method))
    return [_type_row(method, types[method], charts) for method in failed[:MOST_TYPES]]


def _slowest(types: dict[str, Figures], charts: Charts) -> list[TypeRow]:
    """Return those whose runs took longest on average, with how their times are spread."""
    ran = [method for method in types if types[method].run_seconds]
    ran.sort(key=lambda method: (-_mean(types[method]), method))
    spread = figures_of(ran[:MOST_TYPES], hours=charts.period.hours)
    return [_type_row(method, spread[method], charts) for method in ran if method in spread]


def _mean(figures: Figures) -> float:
    return figures.run_seconds / (sum(figures.runs.values()) or figures.ended or 1)


def _type_row(method: str, figures: Figures, charts: Charts) -> TypeRow:
    begin, end = charts.spans[0].begin, charts.spans[-1].end
    failed = {"status__exact": Status.FAILED.value}
    return TypeRow(
        method=visible(method),
        figures=figures,
        url=ended_url(begin, end, method=method),
        failed_url=ended_url(begin, end, method=method, **failed),
        percent=percent(figures),
        mean=duration(_mean(figures)),
        run=times_of(figures, "run"),
    )
