"""No test imports this: it is here to see whether a name from outside does."""

from __future__ import annotations

import taskcontrol


@taskcontrol.whitelist
def reached() -> None:
    """Be found only by whoever imports the module."""
