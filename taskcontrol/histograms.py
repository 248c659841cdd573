"""Sparse histograms on a logarithmic scale: how long things took, in a handful of numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

#: Bins for each doubling: what is read from a bin is at most 9 % off.
PER_DOUBLING = 4
#: Seconds at which bin 0 begins; what took less is in it too.
SHORTEST = 0.001
#: Bin of a number: ``floor(ln(seconds / SHORTEST) * PER_LN)``.
PER_LN = PER_DOUBLING / math.log(2)

#: How many there are in each bin. Its keys are texts once it was JSON.
Histogram = Mapping[int, int] | Mapping[str, int]


def bin_of(seconds: float) -> int:
    """Return the bin that holds ``seconds``."""
    return math.floor(math.log(max(seconds / SHORTEST, 1.0)) * PER_LN)


def seconds_of(number: int) -> float:
    """Return what stands for all in a bin: the geometric middle between its edges."""
    return float(SHORTEST * 2 ** ((number + 0.5) / PER_DOUBLING))


def merged(histograms: Iterable[Histogram]) -> dict[int, int]:
    """Return one histogram of all that is in these."""
    total: Counter[int] = Counter()
    for histogram in histograms:
        for number, count in histogram.items():
            total[int(number)] += count
    return dict(sorted(total.items()))


def percentile(histogram: Mapping[int, int], percent: float) -> float | None:
    """Return the seconds that so many of a hundred did not exceed; None of nothing.

    At most 9 % off; never less than 1 ms.
    """
    rank = percent / 100 * sum(histogram.values())
    reached = 0
    for number, count in sorted(histogram.items()):
        reached += count
        if reached >= rank:
            return seconds_of(number)
    return None
