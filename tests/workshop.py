"""The worker and the web server that tests share, and the tidying up between two tests."""

from __future__ import annotations

from tests.cleaning import bodies_left, empty_tables
from tests.servers.web import Web
from tests.servers.worker import Worker


class Workshop:
    """Keeps one worker over the tests, since a start takes seconds."""

    def __init__(self) -> None:
        self._shared: Worker | None = None
        self._web: Web | None = None

    def open(self) -> None:
        """Begin a test with empty tables."""
        empty_tables()

    def shared_worker(self) -> Worker:
        """Return the worker that all tests share, started again if a test broke it."""
        worker = self._shared
        if worker is None or not worker.process.running or not worker.ready():
            self.close()
            self._shared = worker = Worker().start()
        return worker

    def shared_web(self) -> Web:
        """Return the web server that all tests share, started again if a test broke it."""
        web = self._web
        if web is None or not web.process.running:
            self._web = web = Web().start()
        return web

    def clear(self) -> None:
        """End a test; a worker that still runs one of its bodies is not handed on."""
        if bodies_left():
            self.close()
        empty_tables()

    def close_all(self) -> None:
        """End everything that is shared."""
        self.close()
        if self._web is not None:
            self._web.process.kill()

    def close(self) -> None:
        """End the shared worker."""
        if self._shared is not None:
            self._shared.clear_away()
            self._shared = None
