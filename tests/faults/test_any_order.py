"""Everything that can be done to tasks, in any order, beside an oracle: for longer than in CI."""

from __future__ import annotations

import hypothesis
import pytest

from tests.faults.figures import figure
from tests.faults.tiers import SEED, sized
from tests.model.machine import let_anything_happen

pytestmark = pytest.mark.django_db(transaction=True)


def test_whatever_is_done_the_rows_are_as_the_oracle_says(conf, monkeypatch):
    examples, steps = sized(10, 300, 2000), sized(30, 50)

    with monkeypatch.context() as seeded:
        seeded.setattr(hypothesis.core, "global_force_seed", SEED)
        seen = let_anything_happen(conf, monkeypatch, examples=examples, steps=steps)

    figure(
        "state machine", examples=examples, steps=steps, mismatches=0, claims=seen["claim"]
    )
