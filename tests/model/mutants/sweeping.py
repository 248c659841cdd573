"""Guards of the sweeps that retry, rescue and send again."""

from __future__ import annotations

from tests.model.mutants.making import POSTGRESQL, mutant

MUTANTS = [
    mutant(
        "sweep: retry",
        "dispatch.py",
        ("_retry_and_promote", "retry_failed_tasks()", "pass"),
        by="retries: one poisoned row stops neither the sweep nor the dispatcher p1",
    ),
    mutant(
        "sweep: rescue",
        "rescue.py",
        ("rescue_lost_tasks", "*_held_by_lost_workers(), ", ""),
        by="rescue: a silent worker is declared lost and its task runs again p1",
    ),
    mutant(
        "sweep: release",
        "rescue.py",
        (
            "rescue_from_worker",
            "freed = lifecycle.release(row.pk, row.attempt)",
            "freed = 0",
        ),
        by="rescue: a body that was told to stop is gone with its worker p4",
    ),
    mutant(
        "sweep: resend",
        "resending.py",
        ("resend_unclaimed", "_send_again([task.pk", "len([task.pk"),
        by="resending: a message that nobody claimed is sent again p1",
    ),
    mutant(
        "sweep: one poisoned row stops no other retry",
        "retries.py",
        ("_retry_one", "except Exception:", "except ZeroDivisionError:"),
        by="retries: one poisoned row stops neither the sweep nor the dispatcher p1",
    ),
    mutant(
        "lost: after its silence",
        "rescue.py",
        (
            "_declare_lost",
            "        last_seen_at__lt=DatabaseNow() - seconds(conf.WORKER_LOST_AFTER),\n",
            "",
        ),
        by="rescue: while a worker gives signs of life nothing is rescued",
    ),
    mutant(
        "lost: not if it left",
        "rescue.py",
        ("_declare_lost", "left_at=None,", ""),
        by="rescue: a worker that left in order is never called lost",
    ),
    mutant(
        "lost: once",
        "rescue.py",
        ("_declare_lost", "lost_at=None,", ""),
        by="rescue: a worker is declared lost once",
    ),
    mutant(
        "rescue: only from workers that are gone",
        "rescue.py",
        ("_held_by_lost_workers", ".exclude(worker__in=there)", ""),
        by="rescue: while a worker gives signs of life nothing is rescued",
    ),
    mutant(
        "rescue: not what nobody holds for its time",
        "rescue.py",
        ("_held_by_nobody", "> row.timeout + AT_ONCE_GRACE", "> -1"),
        by="rescue: a body that belongs to no worker is left alone",
    ),
    mutant(
        "rescue: what nobody holds is timed by its last attempt too",
        "rescue.py",
        ("_held_by_nobody", ', Subquery(runs.values("started_at")[:1])', ""),
        by="rescue: a place of a process that is gone is free after cancel and retry too p1",
    ),
    mutant(
        "rescue: what left in order is not counted",
        "rescue.py",
        ("rescue_from_worker", "and worker.left_at is not None", "and False"),
        by="rescue: a worker that left in order gives its tasks back uncounted",
    ),
    mutant(
        "rescue: leaves what somebody holds",
        "rescue.py",
        (
            "_rescue_safely",
            "free_keys(TaskLog.objects.filter(pk=row.pk))",
            "[row.pk]",
        ),
        by="rescue: a row that somebody holds does not stop the sweep",
        on=POSTGRESQL,
    ),
    mutant(
        "lost: not more often than the limit",
        "losses.py",
        ("lose", " and times <= conf.LOST_LIMIT", ""),
        by="rescue: a task that was lost too often fails p1",
    ),
    mutant(
        "lost: only what may run twice",
        "losses.py",
        ("lose", "_may_begin_again(row) and ", ""),
        by="rescue: what must not run twice fails when it is lost",
    ),
    mutant(
        "given back: only what may run twice",
        "losses.py",
        ("give_back", "if _may_begin_again(row):", "if True:"),
        by="rescue: what must not run twice fails when its worker leaves",
    ),
    mutant(
        "given back: a body that still runs keeps its place where it fails too",
        "losses.py",
        ("give_back", "body_gone=not occupied", "body_gone=True"),
        by="signals: what must not run twice and was taken back fails and keeps its place p4",
    ),
    mutant(
        "resend: a limited number of times",
        "resending.py",
        ("resend_unclaimed", "task.sent_count >= conf.RESEND_LIMIT", "False"),
        by="resending: after the last message the task goes back with the reason p1",
    ),
    mutant(
        "resend: still queued",
        "resending.py",
        ("_take", "status=Status.QUEUED, ", ""),
        by="resending: what was claimed while a sweep looked is not sent again",
    ),
    mutant(
        "resend: once among sweeps",
        "resending.py",
        ("_take", ", sent_at__lt=overdue", ""),
        by="resending: sweeps at once send each message once",
        on=POSTGRESQL,
    ),
    mutant(
        "resend: leaves what somebody holds",
        "resending.py",
        ("_take", 'free_keys(rows.order_by("pk"))', "[row.pk for row in rows]"),
        by="resending: a row that somebody holds does not stop the sweep",
        on=POSTGRESQL,
    ),
    mutant(
        "resend: only where a worker is idle",
        "resending.py",
        ("_overdue", "            queue__in=queues,\n", ""),
        ("_overdue", "if not queues:", "if False:"),
        by="resending: what no free worker could have claimed is not sent again",
    ),
    mutant(
        "resend: after a growing time",
        "resending.py",
        ("_overdue", " * 2**count", ""),
        by="resending: the time until the next message doubles",
    ),
]
