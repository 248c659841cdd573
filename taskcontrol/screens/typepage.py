"""What the page of a task type tells beside its form: places, numbers, code against hand."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext as _

from .. import dialect
from ..audit import perform
from ..conf import conf
from ..exceptions import InvalidCall
from ..figures import Figures, figures
from ..models import TaskType
from ..options import DECLARABLE
from ..rates import Sends, rate_of
from ..status import Status
from ..suspension import dispatcher_state
from ..tasktypes import changed_by_hand, declared_of, reset_one, reset_to_declared
from ..wording import duration
from .addresses import admin_url
from .gauges import gauge, holders_of, places_of
from .keptfresh import is_asked_again
from .presentation import EMPTY, link, visible


def type_context(
    one: TaskType, request: HttpRequest, *, may_change: bool
) -> dict[str, Any]:
    """Return what the page shows of a type beside its form and its pause."""
    now = dialect.now(conf.DATABASE)
    holders, others = holders_of(one.method, request.user, now)
    lines = declared_lines(one)
    return {
        "gauge": gauge(places_of([one.method]).get(one.method, 0), one.concurrency_limit),
        "rate": rate_line(one, now),
        "holders": holders,
        "others": others,
        "numbers": [] if is_asked_again(request) else _facts(one),
        "origin": origin_of(one),
        "lines": lines,
        "may_change": may_change,
        "may_reset": may_change and any(line["changed"] for line in lines),
    }


def rate_line(one: TaskType, now: datetime) -> str:
    """Return how many of the type may be sent within a period, and how many were lately."""
    rate = rate_of(one.rate_limit)
    if rate is None:
        return ""
    sends = Sends(dispatcher_state().sent, round(now.timestamp() * 1_000_000))
    sent = rate.number - sends.left(one.method, one.rate_limit)
    told = _("At most %(rate)s may start; %(sent)s did within the last period.")
    return told % {"rate": rate.in_words, "sent": f"{sent:,}"}


def declared_lines(one: TaskType) -> list[dict[str, Any]]:
    """Return each value that code declares or a person changed, and what holds now."""
    changed = changed_by_hand(one)
    names = changed.keys() | (one.declared or {}).keys() if one.is_standard else ()
    return [
        {
            "name": name,
            "label": getattr(TaskType._meta.get_field(name), "verbose_name", name),
            "code": _shown(declared_of(one, name)),
            "now": _shown(getattr(one, name)),
            "changed": name in changed,
        }
        for name in sorted(names)
    ]


def _shown(value: Any) -> str:
    if value is None or value == "":
        return EMPTY
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return visible(value)


def origin_of(one: TaskType) -> str:
    """Return whether code declares the type, and whether a person changed it since."""
    if one.declared is None:
        return _("not known yet")
    if not one.is_standard:
        return _("not in code")
    return _("in code, changed by hand") if changed_by_hand(one) else _("in code")


def reset(request: HttpRequest, one: TaskType) -> str | None:
    """Go back to what code declares, of the value ``field`` alone if one is named."""
    name, user = request.POST.get("field", ""), request.user
    if not name:
        return perform(user, one, lambda: _reset_all(one, user))
    if name not in DECLARABLE:
        raise InvalidCall(_("There is no such value of a type."))
    return perform(user, one, lambda: _reset_one(one, name, user))


def _reset_all(one: TaskType, user: Any) -> str | None:
    changed = changed_by_hand(one)
    reset_to_declared(one, user=user)
    return "Reset to what code declares." if changed else None


def _reset_one(one: TaskType, name: str, user: Any) -> str | None:
    before = _shown(getattr(one, name))
    if not reset_one(one, name, user=user):
        return None
    after = _shown(getattr(one, name))
    return f"Reset {name} to what code declares: {after}, was {before}."


def tasks_url(method: str, status: str = "") -> str:
    """Return the address of the tasks of a method, perhaps in one status."""
    asked = {"method": method} | ({"status__exact": status} if status else {})
    return admin_url("taskcontrol_tasklog_changelist", **asked)


def percentiles(numbers: Figures) -> str:
    """Return how long half of the runs took at most, and how long nearly all."""
    half, most = numbers.run(50), numbers.run(95)
    if half is None or most is None:
        return EMPTY
    return f"{duration(half)}, {duration(most)}"


def _facts(one: TaskType) -> list[tuple[str, Any]]:
    numbers = figures(one.method)
    failed: Any = "0"
    if numbers.failed:
        url = tasks_url(one.method, Status.FAILED)
        told = f"{numbers.failed:,} ({numbers.failed_percent:.1f} %)"
        failed = format_html('<a class="tc-why" href="{}">{}</a>', url, told)
    usual = one.usual_seconds
    return [
        (_("ended"), link(tasks_url(one.method), f"{numbers.ended:,}")),
        (_("failed"), failed),
        (_("run p50, p95"), percentiles(numbers)),
        (_("usually"), EMPTY if usual is None else duration(usual)),
    ]
