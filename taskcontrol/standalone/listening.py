"""Finds a port for the pages and listens on it before anybody serves them."""

from __future__ import annotations

import errno
import socket

from ..exceptions import TaskControlError

DEFAULT_PORT = 7340
#: How many ports after the default one are tried.
TRIES = 100


class PortTaken(TaskControlError):
    """Another program listens there."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"Port {port} of {host} is taken by another program. Give another one with "
            "--port N, or leave --port out to take the next free one."
        )


class NoSuchAddress(TaskControlError):
    """The host is not an address of this machine."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        super().__init__(
            f"Nothing can listen on port {port} of {host}: {error.strerror or error}. Give "
            "an address of this machine with --host."
        )


def listen(host: str, port: int | None) -> socket.socket:
    """Listen on ``port``; without one on the default port or the next that is free.

    The socket outlives the server: a request made while the server restarts waits in it.
    """
    if port is not None:
        return _listen(host, port)
    for candidate in range(DEFAULT_PORT, DEFAULT_PORT + TRIES):
        try:
            return _listen(host, candidate)
        except PortTaken:
            continue
    return _listen(host, 0)


def url_of(listener: socket.socket) -> str:
    """Return the address that a browser on this machine takes."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - only compared
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise NoSuchAddress(host, port, error) from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host, port) from error
        raise NoSuchAddress(host, port, error) from error
    return listener
