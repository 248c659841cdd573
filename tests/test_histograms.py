"""How long things took stands in a handful of numbers, and comes out nearly as it went in."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from taskcontrol.histograms import bin_of, merged, percentile, seconds_of


@pytest.mark.parametrize("seconds", [0.001, 0.0123, 0.9, 1, 17.3, 300, 86_400, 10**7])
def test_what_is_read_from_a_bin_is_at_most_nine_percent_off(seconds):
    assert seconds_of(bin_of(seconds)) == pytest.approx(seconds, rel=0.091)


@pytest.mark.parametrize("seconds", [0, -5, 0.000001, 0.001])
def test_what_took_no_time_is_in_the_first_bin(seconds):
    assert bin_of(seconds) == 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("percent", [50, 95, 99, 100])
def test_a_percentile_is_that_of_the_sorted_values(seed, percent):
    chance = random.Random(seed)
    values = sorted(chance.lognormvariate(0, 2) for _ in range(200))

    found = percentile(Counter(map(bin_of, values)), percent)

    assert found == pytest.approx(values[200 * percent // 100 - 1], rel=0.1, abs=0.001)


def test_of_nothing_there_is_no_percentile():
    assert percentile({}, 95) is None


def test_merged_counts_are_added_also_when_json_made_their_keys_texts():
    assert merged([{"3": 1, "20": 2}, {3: 4}, {}]) == {3: 5, 20: 2}
