"""The stream of one page: server-sent events under ASGI."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from ..exceptions import InvalidCall
from .asking import asked_by
from .reader import reader
from .watching import Asked, Watch

#: Open streams of one person in one process; the page polls beyond.
MOST_STREAMS = 10
#: Seconds between two signs of life, for proxies and for the page, in a silent stream.
PING_EVERY = 15.0
#: Seconds after which a stream ends, and half as much again by chance: the page opens
#: another one, which asks again who it is, and servers that restart are left slowly.
LIVES = 120.0
PING = b"event: ping\ndata:\n\n"
HEADERS = {
    "Cache-Control": "no-store, no-transform",
    # Middleware that compresses would hold back what is small, for ever.
    "Content-Encoding": "identity",
    "X-Accel-Buffering": "no",
}


async def stream(request: HttpRequest) -> Any:
    """Answer the events of what the page asks for.

    204 under WSGI, where a stream would hold a thread: the page polls. 503 when the person
    has too many open, 400 for a request that makes no sense.
    """
    if not isinstance(request, ASGIRequest):
        return HttpResponse(status=204)
    try:
        asked = await sync_to_async(_asked)(request)
    except InvalidCall as error:
        return HttpResponse(str(error), status=400, content_type="text/plain")
    if reader().streams_of(asked.user_id) >= MOST_STREAMS and asked.user_id is not None:
        return HttpResponse("Too many open pages.", status=503, content_type="text/plain")
    return StreamingHttpResponse(
        _events(asked), content_type="text/event-stream", headers=HEADERS
    )


def _asked(request: HttpRequest) -> Asked:
    try:
        return asked_by(request, getattr(request, "user", None))
    finally:
        # Each open stream would keep the connections of this thread.
        connections.close_all()


async def _events(asked: Asked) -> AsyncIterator[bytes]:
    """Yield the frames that come into the mailbox of this page."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    watch = Watch(asked, ring=lambda: loop.call_soon_threadsafe(came.set))
    ends_at = time.monotonic() + LIVES * random.uniform(1.0, 1.5)  # noqa: S311
    reader().join(watch)
    try:
        yield b"retry: 1000\n\n"
        while time.monotonic() < ends_at and not watch.closed:
            try:
                await asyncio.wait_for(came.wait(), PING_EVERY)
            except TimeoutError:
                yield PING
                continue
            came.clear()
            for news in watch.take():
                yield news
        yield b"retry: 100\n\n"  # ended in order: the next one may follow at once
    finally:
        reader().leave(watch)
