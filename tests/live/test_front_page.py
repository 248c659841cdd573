"""The first thing that a newcomer does: press the button and watch the batch fill."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

# What the database is makes no difference to a browser.
pytestmark = [pytest.mark.integration, pytest.mark.only_on("sqlite")]


def test_a_newcomer_indexes_the_library_and_watches(worker, boss, visit):
    page = visit(boss, "/")
    page.get_by_role("button", name="Index the library").click()
    expect(page.locator("#work")).to_contain_text("task")
    numbers = page.locator("#work tbody tr").first
    expect(numbers).to_contain_text("of 1", timeout=90_000)
    expect(numbers.locator("rect.Finished")).to_be_visible(timeout=90_000)
