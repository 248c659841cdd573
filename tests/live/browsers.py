"""A real browser, and what its pages complain about."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def program() -> str:
    """Return the path of a Chromium, or skip the test that wants one."""
    found = next(filter(None, map(shutil.which, NAMES)), "")
    return found or pytest.skip("needs a Chromium: apt-get install chromium")


def start(playwright: Any) -> Any:
    """Start the browser."""
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=program(), args=flags)


def complaints_of(page: Any) -> list[str]:
    """Return a list that grows with each error and each violation of the policy."""
    told: list[str] = []
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on(
        "console",
        lambda message: (
            told.append(message.text)
            if message.type == "error" and "Content Security" in message.text
            else None
        ),
    )
    return told
