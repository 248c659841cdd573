"""Guards of the moves: what each UPDATE asks of the row that it changes."""

from __future__ import annotations

from tests.model.mutants.making import POSTGRESQL, mutant

#: How every move is made.
ARROWS = "lifecycle/arrows.py"


def _unasked(old: str, new: str) -> tuple[str, str, str, str]:
    """``move`` that does not ask for the status which it moves from, in some cases."""
    case = f'old in "{old}" and new in "{new}"'
    return (
        "move",
        "rows.filter(status=old)",
        f"(rows if {case} else rows.filter(status=old))",
        ARROWS,
    )


def _arrow(old: str) -> tuple[str, str, str, str]:
    """The same for the moves that are compiled once."""
    whole = "rows.filter(status=old), written"
    return (
        "whole",
        whole,
        f'(rows if old == "{old}" else rows.filter(status=old)), written',
        ARROWS,
    )


MATRIX = "lifecycle: an arrow moves one row or none"
OTHER_ATTEMPT = "lifecycle: another attempt moves nothing p3"
HELD_IN_PASS = "dispatch: a row that is due and held by somebody stops no pass"

MUTANTS = [
    mutant("promote: still pending", ARROWS, _arrow("Pending"), by=MATRIX),
    mutant(
        "promote: no body in its place",
        "lifecycle/sending.py",
        ("_promote", "], occupies=False", "]"),
        by="lifecycle: a promotion returns only what it moved",
    ),
    mutant("claim: still queued", ARROWS, _arrow("Queued"), by=MATRIX),
    mutant(
        "claim: same attempt",
        "lifecycle/claiming.py",
        ("_claim", ', attempt=p("attempt", "attempt")', ""),
        by=OTHER_ATTEMPT,
    ),
    mutant(
        "claim: not expired",
        "lifecycle/claiming.py",
        ("_claim", "unexpired, pk", "pk"),
        by="lifecycle: nobody claims what has expired",
    ),
    mutant(
        "claim: by a worker that is there",
        "lifecycle/claiming.py",
        ("_claim", "if by_worker:", "if False:"),
        by="lifecycle: a worker that counts as gone claims nothing p3",
    ),
    mutant("end: still started", ARROWS, _arrow("Started"), by=MATRIX),
    mutant(
        "end: same attempt",
        "lifecycle/ending.py",
        ("_ending", ', attempt=p("attempt", "attempt")', ""),
        by=OTHER_ATTEMPT,
    ),
    mutant(
        "end: retries are left",
        "lifecycle/ending.py",
        ("_ending", 'retry_count__lt=F("max_retries")', "pk__gt=0"),
        by="lifecycle: the update that fails a task decides whether a retry is due p7",
    ),
    mutant(
        "end: the body keeps its place",
        "lifecycle/ending.py",
        ("_end", '"occupies": not body_gone', '"occupies": False'),
        by="lifecycle: a body killed at its hard limit holds its place until it is gone p4",
    ),
    mutant(
        "cancel: status as seen",
        ARROWS,
        _unasked("Pending Paused Queued Started Failed", "Canceled"),
        by="lifecycle: cancel against finish has one answer p6",
    ),
    mutant(
        "cancel: looks again",
        "lifecycle/stopping.py",
        (
            "cancel",
            "if _cancel_from(old, TaskLog.objects.filter(pk=task.pk), actor, reason):\n"
            "            return old",
            "won = _cancel_from(old, TaskLog.objects.filter(pk=task.pk), actor, reason)\n"
            "        return old if won else None",
        ),
        by="lifecycle: cancel against claim has one answer p6",
        on=POSTGRESQL,
    ),
    mutant(
        "cancel: the body keeps its place",
        "lifecycle/stopping.py",
        (
            "_cancel_from",
            '"cancel_requested_at": DatabaseNow()}',
            '"occupies": False, "cancel_requested_at": DatabaseNow()}',
        ),
        by="lifecycle: a canceled body holds its place until it is gone p4",
    ),
    mutant(
        "cancel: the body before keeps its place",
        "lifecycle/stopping.py",
        ("_freed", "if old is Status.QUEUED else {}", ""),
        by="lifecycle: a body that still runs holds its place whatever becomes of its retry p4",
    ),
    mutant(
        "cancel: what was sent gives its place up",
        "lifecycle/stopping.py",
        ("_freed", '{"occupies": held} if', "{} if"),
        by="lifecycle: cancel against claim has one answer p6",
    ),
    mutant(
        "cancel: a failure for good has ended",
        "lifecycle/stopping.py",
        ("_cancel_from", "rows = rows.exclude(retry_at=None)", "pass"),
        by="lifecycle: a failure for good is not canceled among others",
    ),
    mutant(
        "several: locked in the order of their keys",
        "dialect.py",
        ("locked_keys", 'rows.order_by("pk")', "rows"),
        by="locking: whatever locks rows locks them in the order that is written down",
        on=POSTGRESQL,
    ),
    mutant(
        "expire: its time has come",
        "lifecycle/stopping.py",
        ("expire", "expires_at__lte=DatabaseNow(), ", ""),
        by="lifecycle: expiry goes by the clock of the database",
    ),
    mutant(
        "expire: still waits",
        "lifecycle/stopping.py",
        ("expire", "status=old, ", "status__gt='', "),
        _unasked("Pending Paused Queued", "Canceled"),
        by=MATRIX,
    ),
    mutant(
        "expire: what was lost is said to have begun",
        "lifecycle/stopping.py",
        ("_how_it_expired", "lost_count__gt=0", "lost_count__gt=9"),
        by="lifecycle: what had begun is not said to have expired before it started",
    ),
    mutant(
        "expire: so is what was given back",
        "lifecycle/stopping.py",
        ("_how_it_expired", "When(Exists(runs)", "When(~Exists(TaskLog.objects.all())"),
        by="lifecycle: what had begun is not said to have expired before it started",
    ),
    mutant(
        "expire: leaves what somebody holds",
        "lifecycle/stopping.py",
        ("expire", "free_ones(due[:page])", 'due.values("pk")[:page]'),
        by=HELD_IN_PASS,
        on=POSTGRESQL,
    ),
    mutant("pause: still pending", ARROWS, _unasked("Pending", "Paused"), by=MATRIX),
    mutant("resume: still paused", ARROWS, _unasked("Paused", "Pending"), by=MATRIX),
    mutant(
        "retry: still failed",
        "lifecycle/again.py",
        ("retry_due", "pk__in=ids, retry_at__lte=DatabaseNow(), ", "pk__in=ids, "),
        ("retry_due", "due.filter(status=Status.FAILED)", "due"),
        _unasked("Failed", "Pending"),
        by=MATRIX,
    ),
    mutant(
        "retry: due",
        "lifecycle/again.py",
        ("retry_due", "retry_at__lte=DatabaseNow(), ", ""),
        by="lifecycle: a retry that is not yet due is not made p7",
    ),
    mutant(
        "retry: within its number",
        "lifecycle/again.py",
        ("retry_due", ', retry_count__lt=F("max_retries")', ""),
        by="lifecycle: a retry beyond their number is not made p7",
    ),
    mutant(
        "retry: leaves what somebody holds",
        "lifecycle/again.py",
        ("retry_due", "free_ones(", "(lambda rows, **_: [one.pk for one in rows])("),
        by=HELD_IN_PASS,
        on=POSTGRESQL,
    ),
    mutant(
        "by hand: still failed or canceled",
        "lifecycle/again.py",
        ("retry_by_hand", "rows.filter(status=old)", "rows"),
        _unasked("Failed Canceled", "Pending"),
        by=MATRIX,
    ),
    mutant(
        "by hand: holds the row while it keeps the run",
        "lifecycle/again.py",
        ("retry_by_hand", "locked_keys(rows.filter(status=old))", "[task_id]"),
        by="lifecycle: two retries of one task count once p7",
        on=POSTGRESQL,
    ),
    mutant(
        "by hand: takes its key again",
        "lifecycle/again.py",
        ("retry_by_hand", "keys.regain(task_id)", "pass"),
        by="keys: a retry by hand is refused while another has the key",
    ),
    mutant(
        "by hand: opens its batch",
        "lifecycle/again.py",
        ("_revive", "batches.reopen(task.batch_id for task in moved)", "pass"),
        by="batchcontrol: a batch that had ended goes on",
    ),
    mutant(
        "rescue: still started",
        "lifecycle/again.py",
        ("_rerun", ", status=Status.STARTED", ""),
        _unasked("Started", "Pending"),
        by=MATRIX,
    ),
    mutant(
        "rescue: same attempt",
        "lifecycle/again.py",
        ("_rerun", ", attempt=attempt", ""),
        by=OTHER_ATTEMPT,
    ),
    mutant(
        "rescue: holds the row while it keeps the run",
        "lifecycle/again.py",
        ("_rerun", "free_ones(rows", "(lambda rows, **_: [one.pk for one in rows])(rows"),
        by="lifecycle: a rescue against the late end of the body has one answer p3",
        on=POSTGRESQL,
    ),
    mutant(
        "unsend: still queued",
        "lifecycle/sending.py",
        ("unsend", ", status=Status.QUEUED", ""),
        _unasked("Queued", "Pending"),
        by=MATRIX,
    ),
    mutant(
        "unsend: same attempt",
        "lifecycle/sending.py",
        ("unsend", " if n == wanted[pk]", ""),
        by=OTHER_ATTEMPT,
    ),
    mutant(
        "unsend: leaves what somebody holds",
        "lifecycle/sending.py",
        ("unsend", "skip_locked(rows)", "rows"),
        by="resending: a row that somebody holds does not stop the sweep",
        on=POSTGRESQL,
    ),
    mutant(
        "release: same attempt",
        "lifecycle/ending.py",
        ("release", ", attempt=attempt", ""),
        by="lifecycle: an older attempt releases nothing",
    ),
    mutant(
        "release: not on its way",
        "lifecycle/ending.py",
        ("release", ".exclude(status__in=(Status.QUEUED, Status.STARTED))", ""),
        by="lifecycle: an active task is never released",
    ),
    mutant(
        "release: something to free",
        "lifecycle/ending.py",
        ("release", ", occupies=True", ""),
        by="lifecycle: a place is freed once",
    ),
    mutant(
        "release: a retry that waited comes into its lane",
        "lifecycle/ending.py",
        ("release", '"ready_lane": lane, ', ""),
        by="lifecycle: a retry waits for the body of the attempt before p4",
    ),
    mutant(
        "news: somebody hears of it",
        ARROWS,
        ("unheard", "rows.filter(heard=False)", "rows"),
        by=("test_announcing.py", "test_callbacks.py"),
    ),
    mutant(
        "end: not before the begin",
        ARROWS,
        ("end_of_a_body", 'Greatest(F("started_at"), DatabaseNow())', "DatabaseNow()"),
        by="lifecycle: a database clock that is set back ends nothing before it began",
    ),
    mutant(
        "cancel: not before the begin",
        "lifecycle/stopping.py",
        ("_cancel_from", '"ended_at": end_of_a_body()', '"ended_at": DatabaseNow()'),
        by="lifecycle: a database clock that is set back ends nothing before it began",
    ),
    mutant(
        "claim: nothing that another worker has claimed",
        "lifecycle/claiming.py",
        (
            "_claim",
            'rows = rows.filter(Q(worker=None) | Q(worker=p("worker", "worker")))',
            "pass",
        ),
        by="lifecycle: what a worker has claimed is begun by no other p3",
    ),
    mutant(
        "begin: by the worker that has claimed it",
        "lifecycle/reported.py",
        ("_claimed_rows", ', worker=p("worker", "worker")', ""),
        by="lifecycle: what a worker has claimed is begun by no other p3",
    ),
    mutant(
        "unsend: by the worker that has claimed it",
        "lifecycle/sending.py",
        ("unsend", ", worker=worker_id", ""),
        by="lifecycle: what a worker has claimed is given back by it alone p3",
    ),
    mutant(
        "cancel: what a worker has claimed keeps its place",
        "lifecycle/stopping.py",
        ("_freed", 'default=F("occupies")', "default=Value(value=False)"),
        by="lifecycle: a canceled task keeps its place while its worker may run it p4 p6",
    ),
    mutant(
        "expire: nothing that a worker has claimed",
        "lifecycle/stopping.py",
        ("expire", "due = due.filter(worker=None)", "pass"),
        by="lifecycle: what a worker has claimed does not expire under it",
    ),
    mutant(
        "claimed at once: by a worker that is there",
        "lifecycle/sending.py",
        (
            "_promote",
            'rows = rows.filter(Exists(there.filter(pk=p("worker", "worker"))))',
            "pass",
        ),
        by="lifecycle: nothing is claimed for a worker that is gone p1",
    ),
    mutant(
        "resend: nothing that a worker has claimed",
        "resending.py",
        ("_overdue", "            worker=None,\n", ""),
        ("_take", ", worker=None", ""),
        by="resending: what a worker has claimed is not sent p3",
    ),
]
