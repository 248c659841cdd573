"""The site of the tests as a web server runs it: with its static files, and a strict CSP."""

from __future__ import annotations

from typing import Any

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

from project.asgi import application as site

#: Nothing inline, nothing from elsewhere.
POLICY = b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'"
_inner: Any = ASGIStaticFilesHandler(site)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serve the site, every answer under the policy."""

    async def strict(message: Any) -> None:
        if message["type"] == "http.response.start":
            header = (b"content-security-policy", POLICY)
            message = {**message, "headers": [*message["headers"], header]}
        await send(message)

    await _inner(scope, receive, strict)
