"""One who reads a stream of server-sent events, byte by byte as it comes."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from http.client import HTTPConnection, HTTPResponse
from typing import Any, NamedTuple

from tests.servers.web import Web
from tests.waiting import eventually


class Event(NamedTuple):
    """One event: its name and what it tells."""

    name: str
    told: Any


class Stream:
    """An open stream of ``server``; ``events`` grows as they come."""

    def __init__(self, server: Web, cookie: str, query: str) -> None:
        self.query = query
        self.connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
        path = f"/taskcontrol/live/stream?{query}"
        headers = {"Cookie": cookie, "Accept-Encoding": "gzip"}
        self.connection.request("GET", path, headers=headers)
        self._socket = self.connection.sock
        self.answer: HTTPResponse = self.connection.getresponse()
        self.events: list[Event] = []
        self.ended = threading.Event()
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Stream:
        if self.answer.status == 200:
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
        return self

    def __exit__(self, *error: object) -> None:
        # Else the thread that reads would be waited for.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._reader is not None:
            self._reader.join(10)
        self.answer.close()
        self._socket.close()

    def _read(self) -> None:
        name, data = "", ""
        try:
            for line in iter(self.answer.readline, b""):
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    data = value
                elif not field and name:
                    self.events.append(Event(name, json.loads(data or "null")))
                    name, data = "", ""
        except (OSError, ValueError, AttributeError):
            pass
        finally:
            self.ended.set()

    def named(self, *names: str) -> list[Any]:
        """Return what the events of these names told so far."""
        return [event.told for event in list(self.events) if event.name in names]

    def snapshot(self) -> dict[str, Any]:
        """Return the first snapshot, waiting for it."""
        return dict(eventually(lambda: self.named("snapshot"), timeout=20)[0])

    def status_of(self, task: Any) -> str | None:
        """Return what was told last of the status of ``task``."""
        states = [
            state
            for event in list(self.events)
            for state in _states(event)
            if state["name"] == task.name
        ]
        return str(states[-1]["status"]) if states else None


def _states(event: Event) -> list[Any]:
    if event.name == "snapshot":
        return [*event.told["tasks"], *event.told["own"]]
    return [event.told] if event.name in {"task", "own"} else []
