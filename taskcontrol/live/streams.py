"""The stream of one page: server-sent events under ASGI."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from ..exceptions import InvalidCall
from .asking import NOBODY, asked_by
from .reader import reader
from .watching import Asked, Watch

#: Open streams in one process: of one person, of all who have a token and no login, and
#: of everybody; the page polls beyond. Anybody may open one, and each takes memory and a file.
MOST_STREAMS = 10
MOST_UNKNOWN = 200
MOST_OPEN = 1000
#: Seconds between two signs of life, for proxies and for the page, in a silent stream.
PING_EVERY = 15.0
#: Seconds after which a stream ends, and half as much again by chance: the page opens
#: another one, which asks again who it is, so that whoever logs out where no other process
#: hears of it, or loses a permission, is told nothing more within a minute.
LIVES = 40.0
PING = b"event: ping\ndata:\n\n"
HEADERS = {
    "Cache-Control": "no-store, no-transform",
    # Middleware that compresses would hold back what is small, for ever.
    "Content-Encoding": "identity",
    "X-Accel-Buffering": "no",
}


class Wakes:
    """Wakes streams of one loop from another thread, many of them by one call.

    A call for each would give up the interpreter's lock each time, while the loop is busy
    with the streams that were woken first.
    """

    def __init__(self) -> None:
        self._due: list[asyncio.Event] = []
        self._lock = threading.Lock()

    def up(self, loop: asyncio.AbstractEventLoop, came: asyncio.Event) -> None:
        """Set the event in its loop, which is the same each time."""
        with self._lock:
            self._due.append(came)
            is_first = len(self._due) == 1
        if is_first:
            loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        with self._lock:
            due, self._due = self._due, []
        for came in due:
            came.set()


_wakes: WeakKeyDictionary[asyncio.AbstractEventLoop, Wakes] = WeakKeyDictionary()


async def stream(request: HttpRequest) -> Any:
    """Answer the events of what the page asks for.

    204 under WSGI, where a stream would hold a thread: the page polls. 503 when too many
    are open, 400 for a request that makes no sense, 403 for one that has nothing to see.
    """
    if not isinstance(request, ASGIRequest):
        return HttpResponse(status=204)
    try:
        asked = await sync_to_async(_asked)(request)
    except InvalidCall as error:
        return HttpResponse(str(error), status=400, content_type="text/plain")
    if not asked.may_ask:
        return HttpResponse(NOBODY, status=403, content_type="text/plain")
    if _is_full(asked):
        return HttpResponse("Too many open pages.", status=503, content_type="text/plain")
    return StreamingHttpResponse(
        _events(asked), content_type="text/event-stream", headers=HEADERS
    )


def _is_full(asked: Asked) -> bool:
    most = MOST_UNKNOWN if asked.user_id is None else MOST_STREAMS
    return reader().streams() >= MOST_OPEN or reader().streams_of(asked.user_id) >= most


def _asked(request: HttpRequest) -> Asked:
    try:
        return asked_by(request, getattr(request, "user", None))
    finally:
        # Each open stream would keep the connections of this thread.
        connections.close_all()


async def _events(asked: Asked) -> AsyncIterator[bytes]:
    """Yield the frames that come into the mailbox of this page."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    wakes = _wakes.setdefault(loop, Wakes())
    watch = Watch(asked, ring=lambda: wakes.up(loop, came))
    ends_at = time.monotonic() + LIVES * random.uniform(1.0, 1.5)  # noqa: S311
    reader().join(watch)
    try:
        yield b"retry: 1000\n\n"
        while time.monotonic() < ends_at and not watch.closed:
            try:
                async with asyncio.timeout(PING_EVERY):
                    await came.wait()
            except TimeoutError:
                yield PING
                continue
            came.clear()
            for news in watch.take():
                yield news
        yield b"retry: 100\n\n"  # ended in order: the next one may follow at once
    finally:
        reader().leave(watch)
