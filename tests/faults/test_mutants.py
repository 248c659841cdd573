"""Each guard of the protocol is left out, and a test must notice: a few in CI, else all."""

from __future__ import annotations

from tests.faults.figures import figure
from tests.faults.tiers import TIER
from tests.model.mutants import MUTANTS, QUICK
from tests.model.mutating import judge_all


def test_whatever_guard_is_left_out_a_test_notices_it():
    chosen = [mutant for mutant in MUTANTS if TIER or mutant.name in QUICK]

    verdicts = list(judge_all(chosen))

    assert [one for one in verdicts if not one.well] == []
    hung = sum(one.hung for one in verdicts)
    figure("mutants", mutants=len(verdicts), killed=len(verdicts), hung=hung, survivors=0)
