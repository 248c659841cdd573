"""The addresses outside admin."""

from __future__ import annotations

from typing import Any

app_name = "taskcontrol"
urlpatterns: list[Any] = []
