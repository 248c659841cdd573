"""Makes the user of a request the creator of what the request enqueues."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.utils.decorators import sync_and_async_middleware

from .context import answering


@sync_and_async_middleware
def CurrentUserMiddleware(get_response: Callable[[HttpRequest], Any]) -> Any:  # noqa: N802
    """Put behind AuthenticationMiddleware in ``MIDDLEWARE``."""
    if iscoroutinefunction(get_response):

        async def answer_later(request: HttpRequest) -> Any:
            with answering(request):
                return await get_response(request)

        return answer_later

    def answer(request: HttpRequest) -> Any:
        with answering(request):
            return get_response(request)

    return answer
