"""Serve the project's pages with uvicorn in this process.

It serves the ASGI application of the project, and with DEBUG on the static files too. A
reload or stop waits two seconds for open requests; live streams would hold it for ever.
In production any ASGI server does: `uvicorn PROJECT.asgi:application`.
"""

from __future__ import annotations

import socket
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, OutputWrapper
from django.utils.module_loading import import_string

GRACE = 2


def add_arguments(parser: ArgumentParser) -> None:
    """Take an address, or the socket that a parent already listens on."""
    parser.add_argument("--host", default="127.0.0.1", help="127.0.0.1 if left out")
    parser.add_argument("--port", type=int, default=7340, help="7340 if left out")
    parser.add_argument(
        "--fd", type=int, metavar="N", help="an inherited listening socket, instead of both"
    )


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Serve until told to stop."""
    try:
        import uvicorn
    except ImportError as error:
        raise CommandError(
            'uvicorn is not installed. Install it, or all of "taskcontrol[embedded]".'
        ) from error
    config = uvicorn.Config(
        application(),
        host=options["host"],
        port=options["port"],
        lifespan="off",
        access_log=False,
        timeout_graceful_shutdown=GRACE,
    )
    inherited = [socket.socket(fileno=options["fd"])] if options["fd"] is not None else None
    uvicorn.Server(config).run(sockets=inherited)


def application() -> Any:
    """Return the project's ASGI application, with its static files while DEBUG is on."""
    dotted = getattr(settings, "ASGI_APPLICATION", None)
    if dotted:
        app = import_string(dotted)
    else:
        from django.core.asgi import get_asgi_application

        app = get_asgi_application()
    if not settings.DEBUG:
        return app
    from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

    return ASGIStaticFilesHandler(app)
