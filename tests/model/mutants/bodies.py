"""Guards around a body: its claim, its end, and what it may commit."""

from __future__ import annotations

from tests.model.mutants.making import POSTGRESQL, mutant

MUTANTS = [
    mutant(
        "claim: by a worker that has a row",
        "execution.py",
        ("claim", "if here.in_worker and here.worker_id is None:", "if False:"),
        by="execution: a worker that has no row runs nothing p1",
    ),
    mutant(
        "claim: what a lost worker may not claim is for others at once",
        "execution.py",
        ("_send_back", "lifecycle.unsend([(task_id, attempt)]", "len([task_id]"),
        by="execution: a message that reached a worker which counts as gone is for others p1",
    ),
    mutant(
        "claim: only what a lost worker may not claim is sent back",
        "execution.py",
        ("_send_back", "if not Worker", "if Worker"),
        by="execution: what a worker that is there is refused stays as it is",
    ),
    mutant(
        "claim: a thread is known before it claims",
        "claims.py",
        ("make", "held.begin_here(task_id, attempt)", "pass"),
        by="signals: what runs in this process is known until the last word",
    ),
    mutant(
        "claim: once for signal and body",
        "claims.py",
        ("of", "if not hasattr(request, _CLAIM):", "if True:"),
        by="signals: the body takes over the claim of the signal",
    ),
    mutant(
        "claim: not run when it was refused",
        "execution.py",
        ("run", "row is not None and ", ""),
        by="execution: a duplicate message runs nothing p3",
    ),
    mutant(
        "end: written once among body and signals",
        "claims.py",
        ("unfinished", "if getattr(request, _ENDED, False):", "if False:"),
        by="test_signals.py",
    ),
    mutant(
        "end: a refused one frees its place",
        "ends.py",
        ("write_end", "lifecycle.release(row.pk, row.attempt)", "True"),
        by="execution: a superseded attempt changes nothing and frees its place p3",
    ),
    mutant(
        "end: on a connection that works",
        "ends.py",
        ("write_end", "leftovers.roll_back_what_is_open()", "pass"),
        by="execution: whatever a body breaks its end is written and the next one runs",
    ),
    mutant(
        "end: tried again while the database is away",
        "ends.py",
        ("_persistently", "OperationalError, InterfaceError, ", ""),
        by="execution: the end is written when the database comes back",
    ),
    mutant(
        "atomic: rolled back when the end is refused",
        "ends.py",
        ("_finish_or_roll_back", "raise TaskCanceled", "pass"),
        by="ends: nothing of a superseded body stays p3",
        on=POSTGRESQL,
    ),
]
