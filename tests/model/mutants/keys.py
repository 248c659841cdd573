"""Guards of deduplication: one task for each key."""

from __future__ import annotations

from tests.model.mutants.making import POSTGRESQL, mutant

MUTANTS = [
    mutant(
        "key: of tasks that have not ended",
        "keys.py",
        ("holders", "        unended | Q(task__retry_at__isnull=False),\n", ""),
        by="keys: an ended task holds nothing",
    ),
    mutant(
        "key: also while a retry is due",
        "keys.py",
        ("holders", " | Q(task__retry_at__isnull=False)", ""),
        by="keys: a failed task whose retry is due holds its key",
    ),
    mutant(
        "key: not of what can never start",
        "keys.py",
        ("holders", '        may_run("task__"),\n', ""),
        by="keys: a task that expired while nobody looked holds nothing unless it runs",
    ),
    mutant(
        "key: taken by one",
        "keys.py",
        ("lock", '_write(rows, "slot")', "pass"),
        by="keys: of many who take a key at once one gets it",
        on=POSTGRESQL,
    ),
    mutant(
        "key: in one order",
        "keys.py",
        ("lock", "sorted({", "dict.fromkeys(["),
        ("lock", "for key in keys})", "for key in keys])"),
        by="keys: keys are locked in one order whatever the call says",
        on=POSTGRESQL,
    ),
    mutant(
        "key: waits for no longer than it may",
        "keys.py",
        (
            "lock",
            "lockwaits.at_most(conf.KEY_WAIT, conf.DATABASE)",
            "lockwaits.at_most(99, conf.DATABASE)",
        ),
        by="keys: a taker does not wait for ever and says for what",
        on=POSTGRESQL,
    ),
    mutant(
        "key: not taken from another by a retry",
        "keys.py",
        ("regain", "if others:", "if False:"),
        by="keys: a retry by hand is refused while another has the key",
    ),
    mutant(
        "key: locked before a call is let in",
        "deduplication.py",
        ("_holders_for", "keys.lock(uncertain)", "keys.holders(uncertain)"),
        by="deduplication: of many calls at once one makes a task",
        on=POSTGRESQL,
    ),
    mutant(
        "key: arguments only to what still waits",
        "deduplication.py",
        ("_replace", "filter(waits, pk", "filter(pk"),
        by="deduplication: replace against the claim reaches the body or says that it did not",
        on=POSTGRESQL,
    ),
]
