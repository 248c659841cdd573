"""Guards of who waits for a lock, how long, and who loses it."""

from __future__ import annotations

from tests.model.mutants.making import POSTGRESQL, mutant

MUTANTS = [
    mutant(
        "brief: bounds itself when it begins",
        "brief.py",
        ("__enter__", "self._bind()", "pass"),
        by="brief: who sleeps over what he does by hand loses the row",
        on=POSTGRESQL,
    ),
    mutant(
        "lock wait: bounds the idleness too",
        "lockwaits.py",
        ("_set", "both += returned_bound(connection.alias)", "pass"),
        by="brief: a wait that is bounded bounds the idleness too",
        on=POSTGRESQL,
    ),
    mutant(
        "impatience: gives up",
        "lockwaits.py",
        ("_bind", 'connection.connection.execute(f"SELECT {OWN_BOUND}")', "pass"),
        by="lockwaits: an impatient thread gives up and can go on",
        on=POSTGRESQL,
    ),
    mutant(
        "keeper: passes over what is held",
        "lookout.py",
        ("while_free", "if not free_keys(row):", "if not row.exists():"),
        by="lookout: a held row keeps the keeper from no other p4",
        on=POSTGRESQL,
    ),
    mutant(
        "keeper: a limit that has come is no loss",
        "lookout.py",
        ("process_lost", "(task_id, attempt) in self._overdue", "False"),
        by="lookout: a hard limit that cannot be written is not taken for a loss",
        on=POSTGRESQL,
    ),
    mutant(
        "keeper: tries an errand again",
        "keeper.py",
        ("_run_errands", "self._errands.append(errand)", "pass"),
        by="keeper: an errand for a held row is done when it is free",
        on=POSTGRESQL,
    ),
    mutant(
        "rescue: not of a worker whose row is held",
        "rescue.py",
        ("_lost_of", "set(free) - were_held", "free"),
        by="rescue: a worker whose row is held has the time of two signs after that p1",
        on=POSTGRESQL,
    ),
    mutant(
        "rescue: a sweep beside it is nobody who holds a worker's row",
        "rescue.py",
        ("_lost_of", "set(free) - were_held", "set(free) - _held_at.keys()"),
        by="rescue: a sweep in another thread keeps no worker from being declared lost",
        on=POSTGRESQL,
    ),
    mutant(
        "learn: passes over what is held",
        "measures.py",
        ("learn", "free = free_keys(", "free = ("),
        by="measures: a type that somebody is changing learns the next time",
        on=POSTGRESQL,
    ),
    mutant(
        "types: waits for nobody who makes the same",
        "tasktypes.py",
        ("ensure", ", lockwaits.at_most(SAME_MOMENT, conf.DATABASE)", ""),
        by="unconfirmed_types: a type that somebody is making stops no other",
        on=POSTGRESQL,
    ),
]
