"""The only place that writes ``status``: one function per arrow of ``status.MOVES``.

Each is a conditional UPDATE that says what it expects, so that the database decides every
race; what it returns is what it moved. Nothing here decides *whether* to move.
"""

from __future__ import annotations

from .again import give_back, rescue, retry_all, retry_by_hand, retry_due
from .claiming import CLAIMED, claim
from .ending import fail, finish, release
from .grouped import Ran
from .reported import begin, finish_claimed
from .sending import Card, promote, promote_and_claim, unsend
from .stopping import cancel, cancel_all, expire
from .withheld import hold_back, pause, pause_all, resume, resume_all

__all__ = [
    "CLAIMED",
    "Card",
    "Ran",
    "begin",
    "cancel",
    "cancel_all",
    "claim",
    "expire",
    "fail",
    "finish",
    "finish_claimed",
    "give_back",
    "hold_back",
    "pause",
    "pause_all",
    "promote",
    "promote_and_claim",
    "release",
    "rescue",
    "resume",
    "resume_all",
    "retry_all",
    "retry_by_hand",
    "retry_due",
    "unsend",
]
