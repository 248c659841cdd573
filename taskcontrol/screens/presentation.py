"""Draws values for the screens: badges, times, people, and texts that are safe to look at."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _, ngettext

from ..arguments import decode
from ..conf import conf
from ..status import ACTIVE, Status
from ..text import redact
from ..wording import duration, moment

MASK = "********"
EMPTY = "-"

#: What a browser hides or lets reorder the text around it: controls, bidi marks, NUL.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def visible(text: object) -> str:
    """Return ``text`` with every character that hides or reorders others written out."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def dotted(path: object) -> SafeString:
    """Return a dotted path that breaks behind a dot where it is too long."""
    parts = ((visible(part),) for part in str(path).split("."))
    return format_html_join(mark_safe(".<wbr>"), "{}", parts)


def badge(word: str, kind: str) -> SafeString:
    """Return a word on a colored ground; the color never says more than the word."""
    return format_html('<span class="tc-badge tc-{}">{}</span>', kind, word)


def status_badge(status: str, *, occupies: bool = False) -> SafeString:
    """Return the badge of a status, and a second one while a body is still to go."""
    shown = badge(Status(status).label, status.lower())
    if occupies and status not in ACTIVE:
        return format_html("{} {}", shown, badge(_("stopping"), "stopping"))
    return shown


def time_tag(at: datetime | None, text: str = "") -> SafeString | str:
    """Return a time that says itself in full when pointed at."""
    if at is None:
        return EMPTY
    local = timezone.localtime(at)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(),
        moment(at),
        text or moment(at),
    )


def ago(at: datetime | None, now: datetime) -> SafeString | str:
    """Return how long ago ``at`` was, or how far ahead it lies."""
    if at is None:
        return EMPTY
    passed = (now - at).total_seconds()
    if passed < 0:
        return time_tag(at, _("in %(time)s") % {"time": brief(-passed)})
    return time_tag(at, _("%(time)s ago") % {"time": brief(passed)})


def brief(seconds: float) -> str:
    """Return ``seconds`` in its largest unit: how long ago needs no more."""
    told = duration(seconds if seconds < 60 else seconds // 60 * 60)
    return " ".join(told.split(" ")[:2])


def span(begin: datetime | None, end: datetime | None) -> str:
    """Return the time from ``begin`` to ``end``."""
    if begin is None or end is None:
        return EMPTY
    return duration((end - begin).total_seconds())


def person(user: Any, user_id: Any) -> str:
    """Return the name of a user, also of one since deleted; nobody is the system."""
    if user_id is None:
        return _("the system")
    if user is None:
        return _("user %(id)s (deleted)") % {"id": user_id}
    return visible(user.get_username())


def related(row: Any, name: str) -> Any:
    """Return what a weak key of ``row`` points to; None when it is gone."""
    try:
        return getattr(row, name)
    except ObjectDoesNotExist:
        return None


def link(url: str, text: object, title: str = "") -> SafeString:
    """Return a link with a text that is safe to look at."""
    return format_html('<a href="{}" title="{}">{}</a>', url, title, visible(text))


def memory(kilobytes: float | None) -> str:
    """Return an amount of memory in megabytes."""
    return EMPTY if kilobytes is None else f"{kilobytes / 1024:,.0f} MB"


def waited(task: Any, now: datetime, again_at: datetime | None = None) -> float | None:
    """Return the seconds that ``task`` waited for its start, or has been waiting.

    The wait of a later attempt began with ``again_at``; None before the time to run.
    """
    begin = max(filter(None, (task.created_at, task.run_at, again_at)))
    end = task.started_at or task.ended_at or now
    return None if begin > now else max((end - begin).total_seconds(), 0.0)


def ran(task: Any, now: datetime) -> str:
    """Return how long the present attempt ran, or has been running."""
    if task.time_taken is not None:
        return duration(task.time_taken.total_seconds())
    return span(task.started_at, task.ended_at or now)


def retries(task: Any) -> str:
    """Return how many retries were made of how many; nothing of a task without."""
    if not task.max_retries and not task.retry_count:
        return ""
    if task.retry_count > task.max_retries:
        # People may retry more often than the system does by itself.
        told = ngettext("%(made)s retry", "%(made)s retries", task.retry_count)
        return told % {"made": task.retry_count}
    told = _("%(made)s of %(most)s retries")
    return told % {"made": task.retry_count, "most": task.max_retries}


def pretty(data: Any, *, masked: bool) -> str:
    """Return stored data as indented JSON with readable values, perhaps without secrets."""
    try:
        value = decode(data)
    except Exception:  # noqa: BLE001 - a row written by another version must still be seen
        value = data
    if masked:
        value = without_secrets(value)
    return visible(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def without_secrets(value: Any) -> Any:
    """Return ``value`` with stars for what a name or the text itself marks as secret."""
    if isinstance(value, dict):
        return {
            key: MASK if is_secret(key) else without_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [without_secrets(item) for item in value]
    if isinstance(value, bytes):
        return MASK
    return redact(value) if isinstance(value, str) else value


def is_secret(name: str) -> bool:
    """Return whether what stands under ``name`` is masked for most."""
    return any(word in name.lower() for word in conf.SECRET_NAMES)
