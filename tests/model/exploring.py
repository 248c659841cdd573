"""Goes through every order of the steps of a protocol, the shortest first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from .protocol import Left, Protocol, State, Wrong, look_at, look_at_the_end


class Seen(NamedTuple):
    """What a walk through all states has shown."""

    #: Different states.
    states: int
    #: What went wrong in the fewest steps; "" when nothing did.
    wrong: str = ""
    #: The steps that lead there.
    trace: tuple[str, ...] = ()


def happenings(number: int) -> Iterator[Left]:
    """Yield every choice of so many different things that happen once: faults and people."""
    for chosen in combinations(Left._fields, number):
        yield Left(**{name: int(name in chosen) for name in Left._fields})


def first_wrong(protocol: Protocol, most: int) -> Seen | None:
    """Return what goes wrong with the fewest happenings, None if nothing does up to ``most``."""
    for number in range(most + 1):
        for left in happenings(number):
            seen = explore(protocol, left)
            if seen.wrong:
                return seen
    return None


def explore(protocol: Protocol, left: Left) -> Seen:
    """Return what is seen from a fresh task on, in every order of steps."""
    start = State(left=left)
    came_from: dict[State, tuple[str, State] | None] = {start: None}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        try:
            look_at(state)
            steps = list(protocol.steps(state))
            # Who may still look may also never come: only what must happen counts.
            if not any(_must_happen(name) for name, _ in steps):
                look_at_the_end(state)
        except Wrong as error:
            return Seen(len(came_from), str(error), _trace(came_from, state))
        for name, after in steps:
            if after not in came_from:
                came_from[after] = (name, state)
                waiting.append(after)
    return Seen(len(came_from))


#: Steps that may never come: people and faults.
FREE = (
    "cancel looks",
    "by hand looks",
    "unsend looks",
    "a message is lost",
    "a worker dies",
    "a live worker counts as lost",
)


def _must_happen(name: str) -> bool:
    return name not in FREE and "dies before" not in name


def _trace(came_from: dict[State, tuple[str, State] | None], end: State) -> tuple[str, ...]:
    names: list[str] = []
    step = came_from[end]
    while step is not None:
        name, before = step
        names.append(name)
        step = came_from[before]
    return tuple(reversed(names))
