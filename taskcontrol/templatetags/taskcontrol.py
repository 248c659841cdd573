"""What pages of the site ask for: the module in the browser, and tokens to watch with."""

from __future__ import annotations

from typing import Any

from django import template

from taskcontrol.live.asking import watch_token
from taskcontrol.live.config import config_for

register = template.Library()
_GIVEN = "_taskcontrol_js"


@register.inclusion_tag("taskcontrol/js.html", takes_context=True)
def taskcontrol_js(context: Any) -> dict[str, Any]:
    """Give a page the module and what it must know: put it into the page's head.

    Later ones on the same page give nothing.
    """
    request = context.get("request")
    if request is None:
        raise template.TemplateSyntaxError(
            "{% taskcontrol_js %} needs the request in the context: render the template "
            "with it, and have django.template.context_processors.request in TEMPLATES."
        )
    if hasattr(request, _GIVEN):
        return {"config": None}
    setattr(request, _GIVEN, True)
    return {"config": config_for(request), "csp_nonce": context.get("csp_nonce")}


@register.simple_tag
def taskcontrol_token(what: Any) -> str:
    """Return a token that lets everybody watch one task or batch; see ``watch_token``."""
    return watch_token(what)
