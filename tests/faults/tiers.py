"""How large a scenario is: small in every run of CI, larger by the hour, largest before a release."""

from __future__ import annotations

import os

#: 0 in minutes, 1 in about an hour, 2 in four hours.
TIER = int(os.environ.get("TASKCONTROL_TIER") or 0)
#: What the dice of a scenario begin with; named in each figure, so that a run can be repeated.
SEED = int(os.environ.get("TASKCONTROL_TEST_SEED") or 7)


def sized(small: int, middle: int, large: int | None = None) -> int:
    """Return the size for this run's tier; tier 2 is as tier 1 unless it says otherwise."""
    return (small, middle, middle if large is None else large)[TIER]
