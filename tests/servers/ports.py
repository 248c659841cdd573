"""Free ports of this machine."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def answers(address: str | tuple[str, int]) -> bool:
    """Return whether something listens on a Unix socket or on a (host, port)."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(1)
        return client.connect_ex(address) == 0
