"""Whatever is done to tasks, in whatever order, they are as a small oracle says (P1-P10)."""

from __future__ import annotations

import pytest
from django.db import connection

from tests.model.machine import let_anything_happen

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]


def test_whatever_is_done_the_rows_are_as_the_oracle_says(conf, monkeypatch):
    # Elsewhere only the SQL is another.
    examples = 30 if connection.vendor == "sqlite" else 10
    let_anything_happen(conf, monkeypatch, examples=examples, steps=30)
