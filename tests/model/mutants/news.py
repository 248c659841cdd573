"""Guards of what is told of a task: news, progress, Celery's signals."""

from __future__ import annotations

from tests.model.mutants.making import mutant

LATER = "announcing: where user code may not run a heard task is told of later"

MUTANTS = [
    mutant(
        "news: one teller at a time",
        "announcing.py",
        ("_take", "_free(), pk=news.pk", "pk=news.pk"),
        by="test_announcing.py",
    ),
    mutant(
        "news: in order",
        "announcing.py",
        ("_take", "if earlier.exists():", "if False:"),
        by="announcing: a news waits while an earlier one of its task is being told",
    ),
    mutant(
        "news: told again when somebody died over it",
        "announcing.py",
        ("_free", " | Q(taken_at__lt=DatabaseNow() - seconds(TELLING_TAKES))", ""),
        by="announcing: news that somebody died over is told again",
    ),
    mutant(
        "news: told a limited number of times",
        "announcing.py",
        ("_tell_if_free", "if news.tellings < MOST_TELLINGS:", "if True:"),
        by="announcing: news that end whoever tells them are given up and that is shown p11",
    ),
    mutant(
        "news: given back by who was ended over it",
        "announcing.py",
        ("_tell_if_free", "stored.update(taken_at=None)", "pass"),
        by="announcing: a crash of the deliverer tells again",
    ),
    mutant(
        "news: told once",
        "announcing.py",
        ("_tell_if_free", "stored.delete()", "stored.update(taken_at=None)"),
        by="announcing: what was stored is delivered in order and once",
    ),
    mutant(
        "news: where user code may run",
        "announcing.py",
        ("announce", "if context.user_code_may_run():", "if True:"),
        by=LATER,
    ),
    mutant(
        "news: only to who hears",
        "announcing.py",
        ("announce", "        if everything or task.heard\n", ""),
        by="announcing: without a receiver nothing is stored or asked",
    ),
    mutant(
        "news: after the commit",
        "announcing.py",
        (
            "announce",
            "transaction.on_commit(\n            partial(deliver_stored, ids), "
            "using=conf.DATABASE, robust=True\n        )",
            "deliver_stored(ids)",
        ),
        by="announcing: a change is told after its commit with the row as it is",
    ),
    mutant(
        "news: of a task that is there",
        "announcing.py",
        ("_tell", "if task is None:", "if False:"),
        by="announcing: news of a task that is gone is dropped",
    ),
    mutant(
        "news: a teller that raises stops nobody",
        "announcing.py",
        ("_tell", "except Exception:", "except ZeroDivisionError:"),
        by="announcing: a teller that raises stops neither the others nor the task",
    ),
    mutant(
        "news: a receiver that raises stops nobody",
        "announcing.py",
        ("_tell_receivers", "send_robust(", "send("),
        by="announcing: a receiver that raises stops neither the others nor the delivery",
    ),
    mutant(
        "news: a telling has an end",
        "announcing.py",
        ("_tell_if_free", "time.monotonic() > until or ", ""),
        by="announcing: what takes long is left to the next telling",
    ),
    mutant(
        "callback: not of a failure that is retried",
        "callbacks.py",
        ("tell_callbacks", " or news.retry_due", ""),
        by="callbacks: a failure that is retried is no end p7",
    ),
    mutant(
        "callback: what it raises harms nobody",
        "callbacks.py",
        ("tell_callbacks", "except BaseException as error:", "except KeyError as error:"),
        by="callbacks: what a callback raises is shown and changes nothing p11",
    ),
    mutant(
        "callback: of a process that must go is told by another",
        "callbacks.py",
        ("tell_callbacks", "if interrupts.process_must_go():", "if False:"),
        by="callbacks: a process that must go leaves its callback to another p1",
    ),
    mutant(
        "progress: of this attempt",
        "progress.py",
        ("write", ", attempt=attempt", ""),
        by="progress: an attempt that was given up on says nothing p3",
    ),
    mutant(
        "progress: while it runs",
        "progress.py",
        ("write", ", status=Status.STARTED", ""),
        by="progress: an attempt that was given up on says nothing p3",
    ),
    mutant(
        "progress: seldom",
        "progress.py",
        ("report", ">= WRITE_EVERY", ">= 0"),
        by="progress: many messages are written at most four times a second",
    ),
    mutant(
        "progress: who reports waits for nobody",
        "progress.py",
        ("_write", "acquire(blocking=False)", "acquire()"),
        by="progress: who reports waits for nobody who writes",
    ),
    mutant(
        "progress: not after the end of the body",
        "progress.py",
        ("close", "self._unwritten = False", "pass"),
        ("close", "self._timer.cancel()", "pass"),
        by="progress: a closed reporter writes no more",
    ),
    mutant(
        "progress: the last word lands",
        "progress.py",
        ("report", "self._write_soon()", "pass"),
        by="progress: the last message lands though the body says no more",
    ),
    mutant(
        "progress: a database that is away harms no body",
        "progress.py",
        (
            "_write",
            "except (OperationalError, InterfaceError) as error:",
            "except KeyError as error:",
        ),
        by="progress: a database that does not answer harms no body",
    ),
    mutant(
        "progress: an error in the bodys transaction is its own",
        "progress.py",
        ("_write", "if side_database() == conf.DATABASE:", "if False:"),
        by="progress: an error in the bodys own transaction is the bodys",
    ),
    mutant(
        "progress: only the body writes in its transaction",
        "progress.py",
        ("_write_soon", " and side_database() != conf.DATABASE", ""),
        by="progress: within a transaction on sqlite only the body writes",
    ),
    mutant(
        "signals: only of our tasks",
        "signals.py",
        ("_is_ours", 'getattr(sender, "name", sender) == broker.RUN', "True"),
        by="signals: the signals of other tasks are not ours",
    ),
    mutant(
        "signals: revoked only what was sent",
        "signals.py",
        ("_cancel_revoked", ", status=Status.QUEUED", ""),
        by="signals: from any other status a receiver moves nothing",
    ),
    mutant(
        "signals: terminated says nothing sure",
        "signals.py",
        ("on_task_revoked", " and not terminated", ""),
        by="signals: a terminated task is told elsewhere",
    ),
    mutant(
        "signals: an error outside the body ends only what runs",
        "signals.py",
        ("on_task_internal_error", " and row.status == Status.STARTED", ""),
        by="signals: an error of celerys own before the claim is no late end",
    ),
    mutant(
        "signals: a body taken back may still be there",
        "losses.py",
        ("give_back_by_key", ", occupied=True", ""),
        by="signals: a body that celery took back keeps its place until it is gone p4",
    ),
    mutant(
        "signals: the event loop waits for no database",
        "signals.py",
        ("_later", "if _boot is not None and interrupts.in_main_process():", "if False:"),
        by="signals: the event loop never waits for the database",
    ),
    mutant(
        "signals: a lost child is the keepers",
        "signals.py",
        ("on_task_failure", "interrupts.in_main_process():", "False:"),
        by="signals: what happened to a child is left to the keeper",
    ),
]
