"""Open pages that watch one task, in a process of their own: ``python -m bench.crowd URL N``.

Says "ready" when every page has its first news; prints at the end of its input what each page
heard when, as pairs of the task's revision and the seconds of the machine's monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from contextlib import suppress
from urllib.parse import urlsplit

REVISION = re.compile(rb'"rev":(\d+)')
Heard = list[tuple[int, float]]
#: Streams that are opened at the same time.
AT_ONCE = 20


async def watch(url: str, heard: Heard, gate: asyncio.Semaphore) -> None:
    """Open a stream, and return when its first news came; a task goes on to listen."""
    parts = urlsplit(url)
    async with gate:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        asked = f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n"
        writer.write(asked.encode())
        await hear(reader, heard)
    # A stream is closed when nobody holds its writer.
    going_on[writer] = asyncio.create_task(listen(reader, heard))


going_on: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}


async def listen(reader: asyncio.StreamReader, heard: Heard) -> None:
    """Listen until the server ends the stream."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            await hear(reader, heard)


async def hear(reader: asyncio.StreamReader, heard: Heard) -> None:
    """Wait for one event that names a revision."""
    while True:
        line = await reader.readuntil(b"\n")
        found = REVISION.search(line)
        if found:
            heard.append((int(found[1]), time.monotonic()))
            return


async def main() -> None:
    """Watch until the input ends."""
    url, number = sys.argv[1], int(sys.argv[2])
    pages: list[Heard] = [[] for _ in range(number)]
    gate = asyncio.Semaphore(AT_ONCE)
    await asyncio.gather(*(watch(url, heard, gate) for heard in pages))
    say("ready")
    await asyncio.to_thread(sys.stdin.read)
    say(json.dumps(pages))


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
