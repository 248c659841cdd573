"""Walks through more states than the tests do: ``python -m tests.model 4``."""

from __future__ import annotations

import sys
import time

from .exploring import explore, happenings
from .protocol import Protocol


def main(number: int) -> int:
    """Let every choice of ``number`` faults and acts happen; 1 if anything goes wrong."""
    began, states = time.monotonic(), 0
    for left in happenings(number):
        seen = explore(Protocol(), left)
        states += seen.states
        if seen.wrong:
            print(f"{seen.wrong}: {'; '.join(seen.trace)}")  # noqa: T201
            return 1
    took = time.monotonic() - began
    print(f"{states:,} states hold with any {number} happenings ({took:.0f} s).")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 4))
