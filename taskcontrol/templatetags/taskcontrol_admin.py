"""What the templates of taskcontrol in admin ask for.

The screens are imported when a tag is drawn: a theme may load all tags while the class that the
screens are made of (``ADMIN_BASE``) is not there yet.
"""

from __future__ import annotations

from typing import Any

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from taskcontrol.suspension import dispatcher_state

register = template.Library()


@register.inclusion_tag("admin/taskcontrol/banner.html", takes_context=True)
def taskcontrol_banner(context: Any) -> dict[str, Any]:
    """Say on every page that the dispatcher is suspended."""
    from taskcontrol.screens.dispatcher import switch_context

    request = context["request"]
    return {**switch_context(request.user, dispatcher_state()), "request": request}


@register.inclusion_tag("admin/taskcontrol/overview.html", takes_context=True)
def taskcontrol_overview(context: Any) -> dict[str, Any]:
    """Show the state of everything."""
    from taskcontrol.screens.addresses import stay_on
    from taskcontrol.screens.overview import overview_for

    stay_on(context["request"].resolver_match.namespace)
    return {**overview_for(context["request"]), "request": context["request"]}


@register.filter
def thousands(number: int) -> str:
    """Return a number as it is read: 12,000."""
    return f"{number:,}"


@register.simple_tag
def taskcontrol_admin_js() -> SafeString:
    """Give a screen the script that keeps it true while it is looked at."""
    url = static("taskcontrol/admin.js")
    return format_html('<script type="module" src="{}"></script>', url)
