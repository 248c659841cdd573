"""The statuses above the list of tasks, each with how many there are, in one statement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from .. import counting
from ..conf import conf
from ..counting import Capped
from ..dialect import counts
from ..models import TaskLog
from ..permissions import VIEW
from ..status import ACTIVE, Status
from .matches import count_by

#: The parameter of the address that chooses one.
PARAMETER = "status__exact"
STOPPING = "stopping"

Numbers = dict[str, int]


@dataclass(frozen=True)
class Tab:
    """One status, or all of them."""

    label: Any
    #: The color of its badge.
    kind: str
    url: str
    #: How many there are; empty where only a search of many rows would know.
    number: str
    current: bool


def tabs_of(table: Any, request: HttpRequest) -> tuple[list[Tab], int | None]:
    """Return the tabs of a list, and how many tasks it shows if that is known thereby.

    The numbers are those of the list as it is narrowed otherwise, counted no further than
    the list itself.
    """
    narrowed = bool({*table.get_filters_params()} - {PARAMETER} or table.query)
    if not narrowed and request.user.has_perm(VIEW):
        numbers: Numbers | None = count_all(counting.MOST_COUNTED)
    elif narrowed and table.loose():
        numbers = None
    else:
        rows = table.root_queryset
        if narrowed:
            rows = table.get_queryset(request, exclude_parameters=[PARAMETER])
        numbers = count_newest(rows)
    chosen = table.params.get(PARAMETER)
    tabs = [_tab(table, name, numbers, chosen) for name in _shown(numbers, chosen)]
    return tabs, _known(numbers, chosen, whole=not narrowed)


def _shown(numbers: Numbers | None, chosen: str | None) -> list[str]:
    stopping = chosen == STOPPING or bool(numbers and numbers[STOPPING])
    return ["", *Status.values, *([STOPPING] if stopping else [])]


def _tab(table: Any, name: str, numbers: Numbers | None, chosen: str | None) -> Tab:
    if not name:
        url = table.get_query_string(remove=[PARAMETER])
        number = None if numbers is None else _total(numbers)
        return Tab(_("All"), "all", url, _said(number), chosen is None)
    label = _("stopping") if name == STOPPING else Status(name).label
    number = None if numbers is None else numbers[name]
    url = table.get_query_string({PARAMETER: name})
    return Tab(label, name.lower(), url, _said(number), chosen == name)


def _said(number: int | None) -> str:
    if number is None or (isinstance(number, Capped) and not number):
        return ""
    return str(number) if isinstance(number, Capped) else f"{number:,}"


def _known(numbers: Numbers | None, chosen: str | None, *, whole: bool) -> int | None:
    """Return how many tasks the list shows, unless that has to be counted."""
    if numbers is None or (chosen is not None and chosen not in numbers):
        return None
    number = _total(numbers) if chosen is None else numbers[chosen]
    full = int(number) >= counting.MOST_COUNTED
    return None if isinstance(number, Capped) and not (full or whole) else number


def _total(numbers: Numbers) -> int:
    total = sum(numbers[status] for status in Status.values)
    capped = any(isinstance(number, Capped) for number in numbers.values())
    if capped or total > counting.MOST_COUNTED:
        return Capped(min(total, counting.MOST_COUNTED))
    return total


def count_all(most: int) -> Numbers:
    """Return how many tasks there are of each status, each counted up to ``most``.

    One statement that reads entries of indexes, at most some ``most`` for each.
    """
    tasks = TaskLog.objects.order_by("-pk")
    # The order is that of their index, or the table would be read up to the bound.
    rows = {status: tasks.filter(status=status) for status in Status}
    finished = rows[Status.FINISHED].filter(ended_at__isnull=False)
    rows[Status.FINISHED] = finished.order_by("-ended_at")
    asked = [*rows.values(), TaskLog.objects.stopping().order_by()]
    found = counts(conf.DATABASE, [some.values("pk")[: most + 1] for some in asked])
    names = [*Status.values, STOPPING]
    return {
        name: Capped(most) if number > most else number
        for name, number in zip(names, found, strict=True)
    }


def count_newest(rows: Any) -> Numbers:
    """Return the statuses of the newest ``rows``: all of them, or at least so many."""
    numbers: Numbers = dict.fromkeys([*Status.values, STOPPING], 0)
    most = counting.MOST_COUNTED
    newest = rows.select_related(None).order_by("-pk")
    for (status, occupies), number in count_by(
        newest, "status", "occupies", most=most
    ).items():
        numbers[status] += number
        numbers[STOPPING] += number if occupies and status not in ACTIVE else 0
    if sum(numbers[status] for status in Status.values) <= most:
        return numbers
    return {name: Capped(number) for name, number in numbers.items()}
