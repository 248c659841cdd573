"""What an examination finds: how bad it is, where, what, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """What was found at one place, and what to do about it."""

    level: Level
    subject: str
    text: str
    advice: str = ""
