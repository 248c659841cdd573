"""Every guard of the protocol, left out one at a time: ``python -m tests.model.mutants``.

Each is a text of a room and what takes its place, and the tests of which one must then fail.
The names of those that ``protocol.py`` knows too are the same there.
"""

from __future__ import annotations

from tests.model.mutants import (
    accounts,
    acts,
    batches,
    bodies,
    calls,
    childdeaths,
    deck,
    dispatching,
    keys,
    lifecycle,
    locks,
    news,
    others,
    processes,
    sweeping,
    unwritten,
    waits,
    workers,
)

ROOMS = (
    lifecycle,
    dispatching,
    sweeping,
    bodies,
    keys,
    batches,
    others,
    workers,
    news,
    accounts,
    acts,
    locks,
    waits,
    calls,
    processes,
    childdeaths,
    deck,
    unwritten,
)
MUTANTS = [mutant for room in ROOMS for mutant in room.MUTANTS]
#: A guard of each kind, whose tests take few seconds: for every run of CI.
QUICK = (
    "promote: no body in its place",
    "end: same attempt",
    "release: not on its way",
    "limit: counts what this pass has chosen",
)
