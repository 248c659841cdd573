"""Gives the lines of a worker's children what Linux allows where nobody has asked for more."""

from __future__ import annotations

from taskcontrol import lines

lines.BUFFER = 212_992
