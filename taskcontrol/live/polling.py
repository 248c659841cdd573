"""The same news for pages that ask again and again: where the server does not stream."""

from __future__ import annotations

import hashlib
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse

from ..exceptions import InvalidCall
from .asking import NOBODY, asked_by
from .states import State, batches_by_id, newest_own, tasks_by_id, with_newest
from .watching import Asked, seen_of


def state(request: HttpRequest) -> HttpResponse:
    """Answer the present state of what the page asks for, with an ETag."""
    try:
        asked = asked_by(request, getattr(request, "user", None))
    except InvalidCall as error:
        return JsonResponse({"error": str(error)}, status=400)
    if not asked.may_ask:
        return JsonResponse({"error": NOBODY}, status=403)
    tasks, batches = present(asked)
    tag = _tag_of([*tasks.values(), *batches.values()])
    if request.headers.get("If-None-Match") == tag:
        return HttpResponseNotModified(headers={"ETag": tag})
    told = _told(asked, tasks, batches)
    return JsonResponse(told, headers={"ETag": tag, "Cache-Control": "private, no-cache"})


def present(asked: Asked) -> tuple[dict[int, State], dict[str, State]]:
    """Return the states of the tasks and of the batches that are asked for."""
    return tasks_by_id(asked.tasks | _own(asked)), batches_by_id(asked.batches)


def _own(asked: Asked) -> set[int]:
    return newest_own(asked.user_id) if asked.own else set()


def _tag_of(states: list[State]) -> str:
    marks = sorted(((state.key, state.mark) for state in states), key=str)
    return f'"{hashlib.blake2b(repr(marks).encode(), digest_size=12).hexdigest()}"'


def _told(asked: Asked, tasks: dict[int, State], batches: dict[str, State]) -> Any:
    """Return what may be told of everything that is asked for."""
    holding = {state.told["batch_id"] for state in tasks.values()} - {None}
    numbers = {**batches_by_id(holding - batches.keys()), **batches}
    tasks = {key: state.in_batch(numbers) for key, state in tasks.items()}
    named = {key: tasks[key] for key in asked.tasks if key in tasks}
    own = [state for state in tasks.values() if asked.own and state.owner == asked.user_id]
    return seen_of(asked, named, with_newest(batches), own)
