"""Guards of schedules and of pruning."""

from __future__ import annotations

from tests.model.mutants.making import POSTGRESQL, mutant

MUTANTS = [
    mutant(
        "schedule: each time once",
        "firing.py",
        (
            "_take",
            '{"next_run_at": schedule.next_run_at, "timetable": schedule.timetable}',
            "{}",
        ),
        by="schedules: two beats fire once",
        on=POSTGRESQL,
    ),
    mutant(
        "schedule: not beside its last run",
        "firing.py",
        ("_run_or_skip", "if before is not None:", "if False:"),
        by="schedules: a run is skipped on record while the last one is active",
    ),
    mutant(
        "schedule: not while a body may run",
        "firing.py",
        ("active_run_of", " and not row.occupies", ""),
        by="schedules: a canceled run whose body is not gone is still active",
    ),
    mutant(
        "prune: only what has ended",
        "pruning.py",
        ("_delete_first", "rows.ended().filter", "rows.filter"),
        by="pruning: tasks are deleted by hand only when they have ended",
    ),
    mutant(
        "prune: not while a body may run",
        "pruning.py",
        ("_delete_first", ".filter(occupies=False)", ""),
        by="pruning: a body that still runs keeps its row p4",
    ),
    mutant(
        "prune: leaves what somebody holds",
        "pruning.py",
        ("_delete_first", "skip_locked(", "("),
        by=(
            "pruning: a row that somebody holds is left",
            "pruning: two who prune at once count each member once p9",
        ),
        on=POSTGRESQL,
    ),
    mutant(
        "brief: who sleeps loses it",
        "brief.py",
        ("bounds", " or not blocks or", " or blocks or"),
        by="brief: who sleeps before his commit loses what he has locked p1",
        on=POSTGRESQL,
    ),
    mutant(
        "brief: a caller's transaction is his",
        "brief.py",
        ("bounds", "not isinstance(outermost, Brief) or not outermost.alone", "False"),
        by="brief: a callers own transaction may last as long as it likes",
        on=POSTGRESQL,
    ),
    mutant(
        "brief: a body takes its time",
        "brief.py",
        ("bounds", " or not outermost.alone", ""),
        by="brief: a body may do nothing for as long as it likes",
        on=POSTGRESQL,
    ),
]
