"""Lets several runs share the scenarios: a file belongs to the run that comes to it first."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

#: The folder in which the runs note what they have taken; without it a run takes everything.
VARIABLE = "TASKCONTROL_TEST_SHARES"


@cache
def is_ours(file: Path) -> bool:
    """Take the scenarios of ``file``; return whether nobody else had taken them."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return True
    try:
        (Path(folder) / file.name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
