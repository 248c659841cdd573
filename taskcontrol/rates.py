"""At most so many tasks of a type within a period: what was sent lately, and what it leaves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

UNLIMITED = 1 << 30
MOST = 1_000_000
#: Sends are remembered one by one up to this many, and else in so many parts of the period.
FINEST = 100

SECOND = 1_000_000
DAY = 86400 * SECOND
#: Microseconds, and how a person says it.
PERIODS = {
    "s": (SECOND, "a second"),
    "m": (60 * SECOND, "a minute"),
    "h": (3600 * SECOND, "an hour"),
    "d": (DAY, "a day"),
}

#: What was sent lately, oldest first: the microsecond since 1970, and how many tasks.
Sent = Sequence[Sequence[int]]

_RATE = re.compile(r"([0-9]{1,9})/([smhd])")


class Rate(NamedTuple):
    """So many tasks within any period of this length."""

    number: int
    unit: str

    @property
    def period(self) -> int:
        """Microseconds."""
        return PERIODS[self.unit][0]

    @property
    def in_words(self) -> str:
        """As a person says it: "10 a minute"."""
        return f"{self.number:,} {PERIODS[self.unit][1]}"

    def __str__(self) -> str:
        return f"{self.number}/{self.unit}"


def rate_of(text: str) -> Rate | None:
    """Return the rate that is written "10/m"; None for everything else."""
    found = _RATE.fullmatch(text)
    rate = Rate(int(found[1]), found[2]) if found else None
    return rate if rate and 1 <= rate.number <= MOST else None


def left(rate: Rate, sent: Sent, now: int) -> int:
    """Return how many more may be sent now."""
    return max(rate.number - sum(number for _, number in _counting(rate, sent, now)), 0)


def opens_at(rate: Rate, sent: Sent, now: int) -> int:
    """Return the microsecond from which one more may be sent."""
    counting = _counting(rate, sent, now)
    total = sum(number for _, number in counting)
    opens = now
    for at, number in counting:
        if total < rate.number:
            break
        total -= number
        opens = at + rate.period
    return opens


def noted(rate: Rate, sent: Sent, now: int, number: int) -> list[list[int]]:
    """Return what was sent lately once ``number`` more are sent now.

    Of a rate of many, what was sent within one small part of the period counts as sent at
    the end of it: the list stays short, and never fewer are counted than there were.
    """
    kept = [list(one) for one in _counting(rate, sent, now)]
    part = rate.period // FINEST if rate.number > FINEST else 1
    if kept and kept[-1][0] // part >= now // part:
        kept[-1] = [max(kept[-1][0], now), kept[-1][1] + number]
    else:
        kept.append([now, number])
    return kept


def _counting(rate: Rate, sent: Sent, now: int) -> list[Sequence[int]]:
    # On both sides: a clock that was set back by days holds nothing back for days.
    return [one for one in sent if abs(now - one[0]) < rate.period]


class Sends(NamedTuple):
    """What was sent lately of each type with a rate."""

    by_method: Mapping[str, Sent]
    #: Microseconds since 1970, by the database's clock.
    now: int

    def left(self, method: str, rate: str) -> int:
        """Return how many more of a type may be sent now."""
        found = rate_of(rate)
        sent = self.by_method.get(method, ())
        return left(found, sent, self.now) if found else UNLIMITED

    def with_more(self, taken: Mapping[tuple[str, str], int]) -> dict[str, Sent]:
        """Return the same with these, by method and rate; what no rate counts is dropped."""
        after: dict[str, Sent] = {
            method: sent
            for method, sent in self.by_method.items()
            if abs(self.now - sent[-1][0]) < DAY
        }
        for (method, text), number in taken.items():
            rate = rate_of(text)
            if rate is not None:
                after[method] = noted(rate, after.get(method, ()), self.now, number)
        return after
