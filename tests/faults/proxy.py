"""A proxy in front of a server's Unix socket: it delays, cuts, swallows and refuses at will."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

Way = Literal["up", "down"]

PIECE = 65536


class Proxy:
    """Passes bytes on between the clients of ``path`` and the server at ``server``.

    What it does to them is changed while it runs, from any thread: ``delay`` is an attribute,
    all else are calls. ``Way``: "up" is from client to server.
    """

    def __init__(self, path: Path, server: Path) -> None:
        self.path, self.server = path, server
        #: Seconds by which each piece comes late, in both directions.
        self.delay = 0.0
        #: Pieces that were delayed or swallowed, and connections that were cut or refused.
        self.delayed = self.swallowed = self.cuts = self.refused = 0
        self._dark: frozenset[Way] = frozenset()
        self._refuses = False
        self._bytes_left: int | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=path.name, daemon=True)

    # What a test calls

    @property
    def harmed(self) -> int:
        """How many pieces and connections did not pass as if nothing was between."""
        return self.delayed + self.swallowed + self.cuts + self.refused

    def start(self) -> Proxy:
        """Take connections."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        self._in_loop(self._listen)
        return self

    def stop(self) -> None:
        """Cut everything and end."""
        self._in_loop(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self.path.unlink(missing_ok=True)

    def cut(self) -> int:
        """Close every connection now, in the middle of what it carries; return how many."""
        before = self.cuts
        self._in_loop(self._cut)
        return self.cuts - before

    def cut_after(self, count: int) -> None:
        """Close every connection as soon as ``count`` more bytes have passed."""
        self._bytes_left = count

    def swallow(self, *ways: Way) -> None:
        """Pass nothing on: connections are taken and stay open.

        Both ways make a black hole, one of them a connection that is half open.
        """
        self._dark = frozenset(ways)

    def refuse(self) -> None:
        """Cut what there is, and close new connections at once."""
        self._refuses = True
        self.cut()

    def heal(self) -> None:
        """Pass everything on again; what lost bytes is cut, since it makes no sense any more."""
        was_dark, self._dark = self._dark, frozenset()
        self.delay, self._refuses, self._bytes_left = 0.0, False, None
        if was_dark:
            self.cut()

    # In the loop's thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _in_loop(self, call: Callable[[], Any]) -> None:
        async def run() -> None:
            result = call()
            if asyncio.iscoroutine(result):
                await result

        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    async def _listen(self) -> None:
        self.path.unlink(missing_ok=True)
        self._listening = await asyncio.start_unix_server(self._take, self.path)

    async def _end(self) -> None:
        self._listening.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _cut(self) -> None:
        self.cuts += len(self._open) // 2
        self._bytes_left = None
        for writer in self._open:
            writer.transport.abort()

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            self.refused += 1
            writer.transport.abort()
            return
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        try:
            answers, server = await asyncio.open_unix_connection(self.server)
        except OSError:  # the server is away: its clients see that as here
            client.transport.abort()
            return
        pair = {client, server}
        self._open |= pair
        up = asyncio.ensure_future(self._pass_on("up", reader, server))
        down = asyncio.ensure_future(self._pass_on("down", answers, client))
        try:
            await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open -= pair
            for way in (up, down):
                way.cancel()
            for writer in pair:
                writer.transport.abort()

    async def _pass_on(
        self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(PIECE):
                if self.delay:
                    self.delayed += 1
                    await asyncio.sleep(self.delay)
                if way in self._dark:
                    self.swallowed += 1
                    continue
                piece, last = self._counted(piece)
                writer.write(piece)
                await writer.drain()
                if last:
                    self._cut()
            while self._dark:  # who swallows says nothing of an end either
                await asyncio.sleep(0.1)

    def _counted(self, piece: bytes) -> tuple[bytes, bool]:
        """Return what of a piece may still pass, and whether the cut comes after it."""
        if self._bytes_left is None:
            return piece, False
        passed = piece[: self._bytes_left]
        self._bytes_left -= len(passed)
        return passed, not self._bytes_left
