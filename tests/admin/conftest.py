"""People with their browsers: one fixture for each role that the screens know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.factories import make_user

#: What an operator may beside looking.
OPERATES = ("view_tasklog", "cancel_tasklog", "retry_tasklog", "prioritize_tasklog")

#: What the boxes for JSON are tried with: nothing could keep it, or show it again.
NONSENSE_IN_JSON = (
    "{",
    '{"a": ' + "9" * 5000 + "}",
    '{"a": ' + "[" * 2000 + "]" * 2000 + "}",
    '{"a": "\\ud800"}',
    '{"\\ud800": 1}',
    '{"a": NaN}',
    '{"a": 1e400}',
)


@pytest.fixture
def log_in(db: None) -> Callable[..., Client]:
    """Return the browser of a member of the staff with these permissions."""

    def browser(name: str = "", *permissions: str, **columns: Any) -> Client:
        user = make_user(name, *permissions, **{"is_staff": True, **columns})
        client = Client()
        client.force_login(user)
        client.user = user  # type: ignore[attr-defined]
        return client

    return browser


@pytest.fixture
def boss(log_in) -> Any:
    """May do everything."""
    return log_in("boss", is_superuser=True)


@pytest.fixture
def operator(log_in) -> Any:
    """Sees all tasks and works with them."""
    return log_in("operator", *OPERATES)


@pytest.fixture
def viewer(log_in) -> Any:
    """Sees all tasks and does nothing."""
    return log_in("viewer", "view_tasklog")


@pytest.fixture
def staff(log_in) -> Any:
    """Has no permission at all: sees the own tasks."""
    return log_in("staff")


def list_url(model: str = "tasklog") -> str:
    """Return the address of a list."""
    return reverse(f"admin:taskcontrol_{model}_changelist")


def page_url(row: Any, page: str = "change") -> str:
    """Return the address of a page of one row, or of one of its buttons."""
    return reverse(f"admin:taskcontrol_{row._meta.model_name}_{page}", args=[row.pk])


def text_of(response: Any) -> str:
    """Return the page, which must have come without an error."""
    assert response.status_code == 200, response
    return str(response.content.decode())


def messages_of(response: Any) -> list[str]:
    """Return what the page tells at its top."""
    return [str(message) for message in response.context["messages"]]
