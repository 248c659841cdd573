"""Rows of the list of tasks as they are now, for a page that shows them already."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.translation import ngettext

from .searchkeys import MOST_DIGITS
from .tasklists import ASKED, NEWER

#: Rows that one answer renders: those of one page.
MOST_ROWS = 50
#: Newer rows are counted up to here.
MOST_NEWER = 100


def fresh_rows(screen: Any, request: HttpRequest) -> dict[str, Any]:
    """Return ``{"rows": HTML}`` of ``?ids=1,2``, or how many are newer than ``?newer=12``."""
    given = request.GET.copy()
    ids, newer = _keys(given.pop("ids", [])), _keys(given.pop("newer", []))
    request.GET = given if newer else given.__class__()  # type: ignore[assignment]
    if newer:
        setattr(request, NEWER, newer[0])
        return _newer(screen.get_changelist_instance(request))
    setattr(request, ASKED, ids[:MOST_ROWS])
    table = screen.get_changelist_instance(request)
    table.formset = None
    context = {"cl": table, "opts": screen.opts}
    return {"rows": render_to_string("admin/taskcontrol/rows.html", context, request)}


def _keys(texts: list[str]) -> list[int]:
    parts = (part for text in texts for part in text.split(","))
    return [
        int(one)
        for one in parts
        if one.isascii() and one.isdigit() and len(one) <= MOST_DIGITS
    ]


def _newer(table: Any) -> dict[str, Any]:
    number = table.queryset.order_by("-pk").values("pk")[: MOST_NEWER + 1].count()
    more = "+" if number > MOST_NEWER else ""
    shown = min(number, MOST_NEWER)
    text = ngettext("%(number)s new - show", "%(number)s new - show", number)
    return {"newer": number, "text": text % {"number": f"{shown}{more}"}}
