"""Marks the parts of a page that a script keeps true while somebody looks at it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

#: Seconds between two looks at what no news are told of.
EVERY = 3
#: What the script calls itself.
SCRIPT = "taskcontrol"


def kept_true(name: str, shown: Any, *, every: int = EVERY) -> SafeString:
    """Return ``shown`` as a region that is rendered anew every few seconds.

    ``name`` tells it from the others of its page.
    """
    text = '<div data-tc-live="{}" data-tc-every="{}">{}</div>'
    return format_html(text, name, every, shown)


def follows_batch(name: str, shown: Any, batch_id: str) -> SafeString:
    """Return ``shown`` as a region that is rendered anew at the news of a batch.

    Without an id nothing is news, but the page that is asked again finds the region.
    """
    follows = format_html(' data-tc-batch="{}"', batch_id) if batch_id else ""
    return format_html('<div data-tc-live="{}"{}>{}</div>', name, follows, shown)


def is_asked_again(request: HttpRequest) -> bool:
    """Return whether the script asks, which takes the regions and leaves the rest."""
    return request.headers.get("X-Requested-With") == SCRIPT
