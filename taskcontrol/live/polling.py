"""The same news for pages that ask again and again: where the server does not stream."""

from __future__ import annotations

import hashlib
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse

from ..exceptions import InvalidCall
from ..models import TaskLog
from .asking import asked_by
from .states import batches_by_id, newest_of, tasks_by_id
from .watching import Asked, seen_of

#: Own tasks that one answer tells, the newest.
MOST_OWN = 100


def state(request: HttpRequest) -> HttpResponse:
    """Answer the present state of what the page asks for, with an ETag."""
    try:
        asked = asked_by(request, getattr(request, "user", None))
    except InvalidCall as error:
        return JsonResponse({"error": str(error)}, status=400)
    told, tag = snapshot(asked)
    if request.headers.get("If-None-Match") == tag:
        return HttpResponseNotModified(headers={"ETag": tag})
    return JsonResponse(told, headers={"ETag": tag, "Cache-Control": "private, no-cache"})


def snapshot(asked: Asked) -> tuple[dict[str, Any], str]:
    """Return what may be told of everything that is asked for, and a tag of its state."""
    own = _own(asked)
    tasks = tasks_by_id(asked.tasks | own)
    batches = {
        key: state.with_news(newest_of(key))
        for key, state in batches_by_id(asked.batches).items()
    }
    marks = [(state.key, state.mark) for state in (*tasks.values(), *batches.values())]
    tag = hashlib.blake2b(repr(sorted(marks, key=str)).encode(), digest_size=12)
    named = {key: tasks[key] for key in asked.tasks if key in tasks}
    mine = [tasks[key] for key in sorted(own) if key in tasks]
    return seen_of(asked, named, batches, mine), f'"{tag.hexdigest()}"'


def _own(asked: Asked) -> set[int]:
    if not asked.own:
        return set()
    rows = TaskLog.objects.filter(created_by=asked.user_id).order_by("-pk")
    return set(rows.values_list("pk", flat=True)[:MOST_OWN])
