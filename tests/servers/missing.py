"""What a server module raises when this machine cannot run its server."""

from __future__ import annotations


class ServerMissing(Exception):
    """No program for this server was found; the sentence says where it was looked for."""
