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
        "end: not within a transaction that only the driver knows of",
        "leftovers.py",
        ("_is_open", "_driver_says_open(connection)", "False"),
        by="leftovers: a transaction that django knows nothing of is rolled back",
    ),
    mutant(
        "end: nor within one that only psycopg knows of",
        "leftovers.py",
        ("_driver_says_open", 'not in {"IDLE", "UNKNOWN"}', 'in {"UNKNOWN"}'),
        by="leftovers: a transaction that django knows nothing of is rolled back",
        on=POSTGRESQL,
    ),
    mutant(
        "end: not on a session that the body left otherwise",
        "leftovers.py",
        ("roll_back_what_is_open", " or sessions.is_spoilt(connection)", ""),
        by="execution: a body that left its session otherwise has its end and the next one "
        "runs p1",
    ),
    mutant(
        "session: not without the autocommit of its driver",
        "sessions.py",
        ("", '"postgresql": ("autocommit", ', '"postgresql": ('),
        by="sessions: a session that is otherwise than it was opened is closed",
        on=POSTGRESQL,
    ),
    mutant(
        "session: nor with dates that nobody reads",
        "sessions.py",
        ("state", 'if vendor == "postgresql":', "if False:"),
        by="sessions: a session that is otherwise than it was opened is closed",
        on=POSTGRESQL,
    ),
    mutant(
        "session: as the site wants it",
        "sessions.py",
        ("is_spoilt", "state(connection) != opened.state", "opened.wrappers is not None"),
        by="sessions: a site that wants its sessions so keeps them",
    ),
    mutant(
        "session: as it was opened, not as it was last seen",
        "sessions.py",
        ("remember", " and connection not in _opened", ""),
        by="sessions: it is remembered once and not as a body leaves it",
    ),
    mutant(
        "session: a pool gives no spoilt one out again",
        "leftovers.py",
        ("close", 'if getattr(connection, "pool", None):', "if False:"),
        by="leftovers: a pool is not given a session back that somebody has spoilt",
    ),
    mutant(
        "end: who lost his work has not finished",
        "execution.py",
        ("_refuse_what_is_open", "leftovers.refuse_what_is_open(but=whole)", "pass"),
        by="execution: whatever a body breaks its end is written and the next one runs",
    ),
    mutant(
        "atomic: nor who lost it in another database",
        "execution.py",
        ("_call", "self._refuse_what_is_open()", "self.outcome.committed = False"),
        by="ends: what it left open elsewhere fails it before the commit",
        on=POSTGRESQL,
    ),
    mutant(
        "fence: the rest is not told within what the body left open",
        "execution.py",
        ("_call", "leftovers.roll_back_what_is_open()", "pass"),
        by="execution: a body that leaves a transaction open behind its fence stays finished",
    ),
    mutant(
        "claim: not within what others left open",
        "execution.py",
        ("claim", "leftovers.roll_back_what_is_open()", "pass"),
        by="execution: what others left open before a claim takes no claim with it p3",
    ),
    mutant(
        "end: tried again while the database is away",
        "ends.py",
        (
            "_persistently",
            "except DatabaseError as error:",
            "except ZeroDivisionError as error:",
        ),
        by="execution: the end is written when the database comes back",
    ),
    mutant(
        "end: not tried again in vain",
        "ends.py",
        (
            "may_pass",
            " and not isinstance(\n        error, DataError | IntegrityError\n    )",
            "",
        ),
        by="execution: an end is tried again unless its values are to blame",
    ),
    mutant(
        "end: a signal writes the one that the body came to",
        "claims.py",
        ("write_missing_end", "getattr(request, _OUTCOME, otherwise)", "otherwise"),
        by="signals: a body that succeeded in an outage has finished after it p1",
    ),
    mutant(
        "end: it is there for the signals",
        "tasks.py",
        ("run", ", keep=partial(claims.keep, self.request)", ""),
        by="signals: a body that failed in an outage is told by its own error",
    ),
    mutant(
        "end: no outage changes it",
        "claims.py",
        ("write_missing_end", " or ends.may_pass(error)", ""),
        by="signals: an outage that outlasts all signals leaves the row to the keeper p1",
    ),
    mutant(
        "end: one that cannot be stored gives way",
        "claims.py",
        ("write_missing_end", "own is otherwise or ends.may_pass(error)", "True"),
        by="signals: an end that cannot be stored at all gives way to what is told",
    ),
    mutant(
        "claim: a spoilt session takes one at most",
        "execution.py",
        ("claim", "leftovers.close(connections[conf.DATABASE])", "pass"),
        by="execution: a session that refuses a claim takes no other p1",
    ),
    mutant(
        "atomic: rolled back when the end is refused",
        "ends.py",
        ("_finish_or_roll_back", "raise TaskCanceled", "pass"),
        by="ends: nothing of a superseded body stays p3",
        on=POSTGRESQL,
    ),
]
