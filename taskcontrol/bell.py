"""The bell: asks for a dispatch pass soon. Losing a ring costs at most one timer tick."""

from __future__ import annotations

import atexit
import logging
import os
import select
import threading
import time
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.conf import settings
from django.db import transaction

from . import crashpoints
from .conf import conf

logger = logging.getLogger("taskcontrol")

KEY = "taskcontrol:bell"
_TIMEOUT = 0.1
_BREAK_SECONDS = 5.0
#: Seconds between two rings of one process: those who ask meanwhile share the next one.
_GAP = 0.005


def request_dispatch() -> None:
    """Ask for a dispatch pass after the commit of the running transaction, or now.

    Never blocks and never fails: a thread of this process rings.
    """
    transaction.on_commit(ring, using=conf.DATABASE, robust=True)


def ring() -> None:
    """Ring now: within a worker its own dispatcher, elsewhere by Redis."""
    crashpoints.reached("bell.wanted")
    if _pipe.fileno is not None:
        _pipe.write()
    else:
        _ringer.ring()


class _Pipe:
    """The local bell of a worker: its children write, its dispatcher's thread reads.

    Made before the pool forks, so that every child inherits it; needs no broker.
    """

    def __init__(self) -> None:
        self.fileno: int | None = None
        self._write_end = -1

    def open(self) -> None:
        self.fileno, self._write_end = os.pipe()
        os.set_blocking(self.fileno, False)
        os.set_blocking(self._write_end, False)

    def write(self) -> None:
        try:
            os.write(self._write_end, b"!")
        except OSError:
            return  # full: a ring is waiting already; closed: the worker is going

    def wait(self, timeout: float) -> bool:
        if self.fileno is None:
            raise RuntimeError("Only a worker's main process waits for the bell.")
        ready, _, _ = select.select([self.fileno], [], [], timeout)
        if ready:
            os.read(self.fileno, 65536)
        return bool(ready)


_pipe = _Pipe()


def open_in_worker() -> None:
    """Make this process a worker's main process, whose children ring without a broker."""
    if _pipe.fileno is None:
        _pipe.open()


def wait(timeout: float) -> bool:
    """Wait for a ring; return whether one came within ``timeout`` seconds."""
    return _pipe.wait(timeout)


def redis_url() -> str | None:
    """Return the address of the Redis that carries the bell, or None without one."""
    if conf.REDIS_URL:
        return conf.REDIS_URL
    broker = getattr(settings, "CELERY_BROKER_URL", None) or ""
    if broker.startswith("redis+socket://"):
        address = urlsplit(broker)
        database = dict(parse_qsl(address.query)).get("virtual_host", "0")
        return f"unix://{address.netloc}{address.path}?db={database}"
    return broker if broker.startswith(("redis://", "rediss://")) else None


def connect(*, timeout: float) -> Any:
    """Return a Redis client for the bell, or None when no Redis is configured."""
    url = redis_url()
    if url is None:
        return None
    from redis import Redis

    return Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout)


class _Ringer:
    """Rings by Redis from a daemon thread, so that no request waits for a broker.

    A breaker keeps a Redis that is away from being asked more than every few seconds.
    """

    def __init__(self) -> None:
        #: The process that has the thread: after a fork it is not here.
        self._owner: int | None = None
        self._is_registered = False
        self.begin_anew()

    def begin_anew(self) -> None:
        """Take locks of its own, in a child: those of the parent may be held for ever."""
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._rings = self._fails = False

    def ring(self) -> None:
        if redis_url() is None:
            return
        # Set by another who has not been served yet: that ring comes after this call too.
        if not self._wanted.is_set():
            self._wanted.set()
        if self._owner != os.getpid():
            self._begin()

    def _begin(self) -> None:
        with self._lock:
            if self._owner == os.getpid():
                return
            if not self._is_registered:
                atexit.register(self.ring_at_exit)
                self._is_registered = True
            thread = threading.Thread(
                target=self._serve, name="taskcontrol-bell", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                # The system has no room for one more; whoever asks next tries again.
                logger.debug("The bell has no thread: %s", error)
                return
            self._owner = os.getpid()

    def _serve(self) -> None:
        client = None
        while True:
            self._wanted.wait()
            self._rings = True
            self._wanted.clear()
            try:
                client = client or connect(timeout=_TIMEOUT)
                if client is not None:
                    ring_by(client)
                self._rings = self._fails = False
            except Exception as error:  # noqa: BLE001 - the timer does what a lost ring asked
                logger.debug("The bell did not ring: %s", error)
                client, self._fails = None, True
            _rest(_BREAK_SECONDS if self._fails else _GAP)

    def ring_at_exit(self) -> None:
        """Ring for those who asked last: the thread ends with the process."""
        asked = self._rings or self._wanted.is_set()
        if asked and not self._fails and self._owner == os.getpid():
            with suppress(Exception):
                ring_by(connect(timeout=_TIMEOUT))


def _rest(seconds: float) -> None:
    time.sleep(seconds)


_ringer = _Ringer()


def _begin_anew_in_child() -> None:
    _ringer.begin_anew()


os.register_at_fork(after_in_child=_begin_anew_in_child)


def ring_by(client: Any) -> None:
    """Put one ring into the list and keep its length at one."""
    with client.pipeline(transaction=False) as pipe:
        pipe.lpush(KEY, 1)
        pipe.ltrim(KEY, 0, 0)
        pipe.execute()


def listen(stopped: threading.Event) -> None:
    """Carry rings from Redis to this worker's pipe until ``stopped``; survives its loss."""
    client = None
    while not stopped.is_set():
        try:
            client = client or connect(timeout=30)
            if client is None:
                return
            if client.blpop([KEY], timeout=10):
                _pipe.write()
        except Exception as error:  # noqa: BLE001 - without Redis the timer goes on
            logger.debug("No bell from Redis: %s", error)
            client = None
            stopped.wait(_BREAK_SECONDS)
