"""Guards of batches: held back, ended, and called back once."""

from __future__ import annotations

from tests.model.mutants.making import POSTGRESQL, mutant

MUTANTS = [
    mutant(
        "batch: one settler at a time",
        "settling.py",
        ("_taken", "free_keys(rows)", "True"),
        by="settling: many who end a batch at once insert each callback once",
        on=POSTGRESQL,
    ),
    mutant(
        "batch: looks again with the row held",
        "settling.py",
        ("_settle", " or not _ended([batch_id]).exists()", ""),
        by="settling: a task that joins while its batch ends keeps the batch open p9",
        on=POSTGRESQL,
    ),
    mutant(
        "batch: each callback once for all time",
        "settling.py",
        ("_called_back", 'if callback.get("task") is None:', "if True:"),
        by="settling: each callback is inserted once for all time",
    ),
    mutant(
        "batch: a retry that is due is no end",
        "batches.py",
        ("unended_member", "*alive, _one(retrying)", "*alive"),
        by="settling: a failure whose retry is due is no end",
    ),
    mutant(
        "batch: a retry that is due is no failure",
        "batches.py",
        ("failed_member", "retry_at=None, ", ""),
        by="settling: an automatic retry is not yet a failure",
    ),
    mutant(
        "batch: a resume forgives",
        "batches.py",
        ("failed_member", ", ended_at__gt=resumed", ""),
        by="settling: a batch that was resumed goes on in spite of the failure",
    ),
    mutant(
        "batch: a canceled one takes no tasks",
        "batches.py",
        ("_grow", ", canceled_at=None", ""),
        by="batchcontrol: a canceled batch takes no more tasks",
    ),
    mutant(
        "batch: paused and resumed one at a time",
        "batchcontrol.py",
        ("_hold_page", "locked_keys(TaskBatch.objects.filter(pk=batch_id))", "pass"),
        by="locking: a pause waits for the resume of its batch and holds nothing then",
        on=POSTGRESQL,
    ),
    mutant(
        "batch: tasks before it in a caller's transaction",
        "batchcontrol.py",
        ("_take_before_the_batch", "if not connections", "if connections"),
        by="locking: who steers a batch in a transaction waits for no task with the batch in hand",
        on=POSTGRESQL,
    ),
]
