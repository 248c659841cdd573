"""Finds scripts for the safe calls: by the name that a caller says, and by a task's method."""

from __future__ import annotations

from typing import Any

from ...exceptions import MethodNotFound
from ...safecalls import Found, whitelist
from .interpreter import run
from .models import PREFIX, Script
from .words import words


def find(name: str) -> Found | None:
    """Return the script that is called ``name``, ready to run; None when there is none.

    Raises MethodNotFound for the method of a script that is not there any more.
    """
    known, said = name.removeprefix(PREFIX), name.startswith(PREFIX)
    script = Script.objects.filter(name=known, enabled=True).first()
    if script is not None:
        return Found(script.method, _function_of(script))
    if said:
        raise MethodNotFound(name, f"there is no script {known!r} that is enabled")
    return None


def _function_of(script: Script) -> Any:
    @whitelist(permission=script.permission or None)
    def run_script(**args: Any) -> Any:
        return run(script.source, script.name, words(), args)

    return run_script
