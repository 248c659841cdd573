"""A web server of the site, and those who read its streams."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest
from django.test import Client
from playwright.sync_api import expect, sync_playwright

from tests.factories import make_user
from tests.live import browsers
from tests.live.streaming import Stream
from tests.servers.web import Web


@pytest.fixture
def start_web(workshop: Any) -> Iterator[Callable[..., Web]]:
    """Start servers of one's own: ``start_web(asgi=False)``."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Web(**options))


@pytest.fixture
def web(workshop: Any) -> Web:
    """A server that tests share, so start it once."""
    server: Web = workshop.shared_web()
    return server


class Person(NamedTuple):
    """Somebody who is logged in."""

    user: Any
    client: Client

    @property
    def cookie(self) -> str:
        """The session, as a browser sends it."""
        return f"sessionid={self.client.cookies['sessionid'].value}"


@pytest.fixture
def log_in(workshop: Any) -> Callable[..., Person]:
    """Return a new person with these permissions: ``log_in("ann", "view_tasklog")``."""

    def person(name: str = "", *permissions: str, **columns: Any) -> Person:
        made = Person(make_user(name, *permissions, **columns), Client())
        made.client.force_login(made.user)
        return made

    return person


@pytest.fixture
def boss(log_in: Callable[..., Person]) -> Person:
    """May do everything."""
    return log_in("boss", is_superuser=True, is_staff=True)


@pytest.fixture
def somebody(log_in: Callable[..., Person]) -> Person:
    """Has no permission at all."""
    return log_in("somebody")


@pytest.fixture
def watch(web: Web) -> Iterator[Callable[..., Stream]]:
    """Open streams: ``watch(somebody, "tasks=1,2")``; None has not logged in."""
    with ExitStack() as stack:
        yield lambda person, query, server=web: stack.enter_context(
            Stream(server, person.cookie if person else "", query)
        )


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One browser for all tests."""
    browsers.program()
    # The library runs a loop in this thread, where Django then refuses its queries.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    # A machine under load is slow, and what is true at once waits for nothing.
    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        started = browsers.start(playwright)
        yield started
        started.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def visit(browser: Any, web: Web) -> Iterator[Callable[..., Any]]:
    """Open pages as somebody: ``visit(boss, "/admin/")``. None may complain."""
    with ExitStack() as stack:
        told: list[list[str]] = []

        def open_page(person: Person | None, path: str, server: Web = web) -> Any:
            context = browser.new_context()
            stack.callback(context.close)
            if person is not None:
                name, value = person.cookie.split("=")
                cookie = {"name": name, "value": value, "url": server.url}
                context.add_cookies([cookie])
            page = context.new_page()
            told.append(browsers.complaints_of(page))
            page.goto(f"{server.url}{path}")
            return page

        yield open_page
        assert [text for texts in told for text in texts] == []
