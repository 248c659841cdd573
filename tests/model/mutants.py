"""Every guard of the protocol, left out one at a time: ``python -m tests.model.mutants``.

Each is a text of a room and what takes its place, and the tests of which one must then fail.
The names of those that ``protocol.py`` knows too are the same there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.model.mutating import Edit, Mutant, judge_all

POSTGRESQL = "postgresql"


def _mutant(
    name: str,
    file: str,
    *edits: tuple[str, str, str],
    by: str | tuple[str, ...],
    on: str = "sqlite",
) -> Mutant:
    """``by``: "room: what the test says", or a path below ``tests/``."""
    tests = (by,) if isinstance(by, str) else by
    paths = tuple(_path(one) for one in tests)
    return Mutant(name, file, tuple(Edit(*one) for one in edits), paths, on)


def _path(test: str) -> str:
    room, colon, words = test.partition(": ")
    return f"test_{room}.py::test_{words.replace(' ', '_')}" if colon else test


def _unasked(old: str, new: str) -> tuple[str, str, str]:
    """``_move`` that does not ask for the status which it moves from, in some cases."""
    case = f'old in "{old}" and new in "{new}"'
    return (
        "_move",
        "rows.filter(status=old)",
        f"(rows if {case} else rows.filter(status=old))",
    )


def _arrow(old: str) -> tuple[str, str, str]:
    """The same for the moves that are compiled once."""
    whole = "rows.filter(status=old), _written"
    return (
        "whole",
        whole,
        f'(rows if old == "{old}" else rows.filter(status=old)), _written',
    )


MATRIX = "lifecycle: an arrow moves one row or none"
OTHER_ATTEMPT = "lifecycle: another attempt moves nothing p3"
HELD_IN_PASS = "dispatch: a row that is due and held by somebody stops no pass"

LIFECYCLE = [
    _mutant("promote: still pending", "lifecycle.py", _arrow("Pending"), by=MATRIX),
    _mutant(
        "promote: no body in its place",
        "lifecycle.py",
        ("_promote", "], occupies=False", "]"),
        by="lifecycle: a promotion returns only what it moved",
    ),
    _mutant("claim: still queued", "lifecycle.py", _arrow("Queued"), by=MATRIX),
    _mutant(
        "claim: same attempt",
        "lifecycle.py",
        ("_claim", ', attempt=p("attempt", "attempt")', ""),
        by=OTHER_ATTEMPT,
    ),
    _mutant(
        "claim: not expired",
        "lifecycle.py",
        ("_claim", "unexpired, pk", "pk"),
        by="lifecycle: nobody claims what has expired",
    ),
    _mutant("end: still started", "lifecycle.py", _arrow("Started"), by=MATRIX),
    _mutant(
        "end: same attempt",
        "lifecycle.py",
        ("_ending", ', attempt=p("attempt", "attempt")', ""),
        by=OTHER_ATTEMPT,
    ),
    _mutant(
        "end: retries are left",
        "lifecycle.py",
        ("_ending", 'retry_count__lt=F("max_retries")', "pk__gt=0"),
        by="lifecycle: the update that fails a task decides whether a retry is due p7",
    ),
    _mutant(
        "end: the body keeps its place",
        "lifecycle.py",
        ("_end", '"occupies": not body_gone', '"occupies": False'),
        by="lifecycle: a body killed at its hard limit holds its place until it is gone p4",
    ),
    _mutant(
        "cancel: status as seen",
        "lifecycle.py",
        _unasked("Pending Paused Queued Started Failed", "Canceled"),
        by="lifecycle: cancel against finish has one answer p6",
    ),
    _mutant(
        "cancel: looks again",
        "lifecycle.py",
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
    _mutant(
        "cancel: the body keeps its place",
        "lifecycle.py",
        (
            "_cancel_from",
            '{"cancel_requested_at": ',
            '{"occupies": False, "cancel_requested_at": ',
        ),
        by="lifecycle: a canceled body holds its place until it is gone p4",
    ),
    _mutant(
        "cancel: the body before keeps its place",
        "lifecycle.py",
        ("_freed", "if old is Status.QUEUED else {}", ""),
        by="lifecycle: a body that still runs holds its place whatever becomes of its retry p4",
    ),
    _mutant(
        "cancel: what was sent gives its place up",
        "lifecycle.py",
        ("_freed", '{"occupies": False} if', "{} if"),
        by="lifecycle: cancel against claim has one answer p6",
    ),
    _mutant(
        "cancel: a failure for good has ended",
        "lifecycle.py",
        ("_cancel_from", "rows = rows.exclude(retry_at=None)", "pass"),
        by="lifecycle: a failure for good is not canceled among others",
    ),
    _mutant(
        "several: locked in the order of their keys",
        "dialect.py",
        ("locked_keys", 'rows.order_by("pk")', "rows"),
        by="locking: whatever locks rows locks them in the order that is written down",
        on=POSTGRESQL,
    ),
    _mutant(
        "expire: its time has come",
        "lifecycle.py",
        ("expire", "expires_at__lte=DatabaseNow(), ", ""),
        by="lifecycle: expiry goes by the clock of the database",
    ),
    _mutant(
        "expire: still waits",
        "lifecycle.py",
        ("expire", "status=old, ", "status__gt='', "),
        _unasked("Pending Paused Queued", "Canceled"),
        by=MATRIX,
    ),
    _mutant(
        "expire: leaves what somebody holds",
        "lifecycle.py",
        ("expire", "_free_ones(due[:page])", 'due.values("pk")[:page]'),
        by=HELD_IN_PASS,
        on=POSTGRESQL,
    ),
    _mutant(
        "pause: still pending", "lifecycle.py", _unasked("Pending", "Paused"), by=MATRIX
    ),
    _mutant(
        "resume: still paused", "lifecycle.py", _unasked("Paused", "Pending"), by=MATRIX
    ),
    _mutant(
        "retry: still failed",
        "lifecycle.py",
        ("retry_due", "pk__in=ids, retry_at__lte=DatabaseNow(), ", "pk__in=ids, "),
        ("retry_due", "due.filter(status=Status.FAILED)", "due"),
        _unasked("Failed", "Pending"),
        by=MATRIX,
    ),
    _mutant(
        "retry: due",
        "lifecycle.py",
        ("retry_due", "retry_at__lte=DatabaseNow(), ", ""),
        by="lifecycle: a retry that is not yet due is not made p7",
    ),
    _mutant(
        "retry: within its number",
        "lifecycle.py",
        ("retry_due", ', retry_count__lt=F("max_retries")', ""),
        by="lifecycle: a retry beyond their number is not made p7",
    ),
    _mutant(
        "retry: leaves what somebody holds",
        "lifecycle.py",
        ("retry_due", "_free_ones(", "(lambda rows, **_: [one.pk for one in rows])("),
        by=HELD_IN_PASS,
        on=POSTGRESQL,
    ),
    _mutant(
        "by hand: still failed or canceled",
        "lifecycle.py",
        ("retry_by_hand", "rows.filter(status=old)", "rows"),
        _unasked("Failed Canceled", "Pending"),
        by=MATRIX,
    ),
    _mutant(
        "by hand: holds the row while it keeps the run",
        "lifecycle.py",
        ("retry_by_hand", "locked_keys(rows.filter(status=old))", "[task_id]"),
        by="lifecycle: two retries of one task count once p7",
        on=POSTGRESQL,
    ),
    _mutant(
        "by hand: takes its key again",
        "lifecycle.py",
        ("retry_by_hand", "keys.regain(task_id)", "pass"),
        by="keys: a retry by hand is refused while another has the key",
    ),
    _mutant(
        "by hand: opens its batch",
        "lifecycle.py",
        ("_revive", "batches.reopen(task.batch_id for task in moved)", "pass"),
        by="batchcontrol: a batch that had ended goes on",
    ),
    _mutant(
        "rescue: still started",
        "lifecycle.py",
        ("_rerun", ", status=Status.STARTED", ""),
        _unasked("Started", "Pending"),
        by=MATRIX,
    ),
    _mutant(
        "rescue: same attempt",
        "lifecycle.py",
        ("_rerun", ", attempt=attempt", ""),
        by=OTHER_ATTEMPT,
    ),
    _mutant(
        "rescue: holds the row while it keeps the run",
        "lifecycle.py",
        ("_rerun", "_free_ones(rows", "(lambda rows, **_: [one.pk for one in rows])(rows"),
        by="lifecycle: a rescue against the late end of the body has one answer p3",
        on=POSTGRESQL,
    ),
    _mutant(
        "unsend: still queued",
        "lifecycle.py",
        ("unsend", ", status=Status.QUEUED", ""),
        _unasked("Queued", "Pending"),
        by=MATRIX,
    ),
    _mutant(
        "unsend: same attempt",
        "lifecycle.py",
        ("unsend", " if n == wanted[pk]", ""),
        by=OTHER_ATTEMPT,
    ),
    _mutant(
        "unsend: leaves what somebody holds",
        "lifecycle.py",
        ("unsend", "skip_locked(rows)", "rows"),
        by="resending: a row that somebody holds does not stop the sweep",
        on=POSTGRESQL,
    ),
    _mutant(
        "release: same attempt",
        "lifecycle.py",
        ("release", ", attempt=attempt", ""),
        by="lifecycle: an older attempt releases nothing",
    ),
    _mutant(
        "release: not on its way",
        "lifecycle.py",
        ("release", ".exclude(status__in=(Status.QUEUED, Status.STARTED))", ""),
        by="lifecycle: an active task is never released",
    ),
    _mutant(
        "release: something to free",
        "lifecycle.py",
        ("release", ", occupies=True", ""),
        by="lifecycle: a place is freed once",
    ),
    _mutant(
        "release: a retry that waited comes into its lane",
        "lifecycle.py",
        ("release", '"ready_lane": lane, ', ""),
        by="lifecycle: a retry waits for the body of the attempt before p4",
    ),
    _mutant(
        "news: somebody hears of it",
        "lifecycle.py",
        ("unheard", "rows.filter(heard=False)", "rows"),
        by=("test_announcing.py", "test_callbacks.py"),
    ),
]

DISPATCH = [
    _mutant(
        "pass: one at a time",
        "turns.py",
        ("_build_turn", ".select_for_update()", ""),
        by=(
            "dispatch: eight passes at once never exceed a limit p4",
            "dispatch: one pass at a time",
        ),
        on=POSTGRESQL,
    ),
    _mutant(
        "pass: leaves what somebody holds",
        "dispatch.py",
        ("_lock", "skip_locked(rows)", "rows"),
        by="dispatch: a row that somebody holds is skipped and stops nobody",
        on=POSTGRESQL,
    ),
    _mutant(
        "pass: still pending when locked",
        "dispatch.py",
        ("_lock", ", status=Status.PENDING", ""),
        by="dispatch: a task that is paused while a pass looks gives its slot to the next",
    ),
    _mutant(
        "pass: not of a batch that is held",
        "dispatch.py",
        ("_lock", "if held:", "if False:"),
        by="settling: from the failure on no pass sends what is held",
    ),
    _mutant(
        "pass: not while suspended",
        "dispatch.py",
        ("_use_turn", "if state.suspended:", "if False:"),
        by="dispatch: while suspended nothing is promoted",
    ),
    _mutant(
        "pass: asks a broker that was away",
        "dispatch.py",
        ("_use_turn", "and state.broker_error:", "and False:"),
        by="dispatch: while the broker is away nothing is promoted again and again p1",
    ),
    _mutant(
        "pass: what was not sent goes back",
        "dispatch.py",
        ("_send", "lifecycle.unsend(", "(lambda *_, **__: 0)("),
        by="dispatch: what the broker does not take waits with the reason p1",
    ),
    _mutant(
        "limit: counts the places that are taken",
        "fronts.py",
        ("waiting_lanes", "limit - occupancy.by_type[method]", "limit"),
        by="dispatch: a limit counts what is sent running and stopping p4",
    ),
    _mutant(
        "limit: counts what this pass has chosen",
        "dispatch.py",
        ("_choose", "= free - 1", "= free"),
        by="dispatch: a limit holds over queues and priorities p4",
    ),
    _mutant(
        "limit: nothing beyond it",
        "dispatch.py",
        ("_choose", " or free <= 0", ""),
        by="dispatch: a limit holds over queues and priorities p4",
    ),
    _mutant(
        "limit: a body holds its place until it is gone",
        "occupancy.py",
        (
            "_build_held",
            "filter(occupies=True)",
            'filter(occupies=True, status__in=("Queued", "Started"))',
        ),
        by="dispatch: a limit counts what is sent running and stopping p4",
    ),
    _mutant(
        "slots: nothing without one",
        "dispatch.py",
        (
            "_choose",
            "if not slots.take(lane.queue, lane.usual_seconds):",
            "slots.take(lane.queue, lane.usual_seconds)\n        if False:",
        ),
        by="dispatch: a pass promotes what finds a slot and sends it",
    ),
    _mutant(
        "slots: nobody overtakes within a queue",
        "dispatch.py",
        ("_choose", "closed.add(lane.queue)", "pass"),
        by="dispatch: what is short does not overtake what waits for a slot of the same queue p5",
    ),
    *(
        _mutant(
            f"slots: of workers that {which}",
            "occupancy.py",
            ("live_workers", f"{text},\n", "\n"),
            by="occupancy: a worker offers slots while it gives signs of life",
        )
        for which, text in {
            "have not left": "left_at=None",
            "are not lost": "lost_at=None",
            "do not leave": "leaving_at=None",
            "give signs": "last_seen_at__gt=DatabaseNow() - seconds(conf.WORKER_LOST_AFTER)",
        }.items()
    ),
    _mutant(
        "pauses: of queues and types hold",
        "fronts.py",
        ("waiting_lanes", "if not held:", "if True:"),
        by="dispatch: a pause holds its own back and nobody else",
    ),
    _mutant(
        "lanes: not while the body before may run",
        "lanes.py",
        ("ready_lane", "Q(occupies=True)", "Q(pk=0)"),
        by="lifecycle: a retry waits for the body of the attempt before p4",
    ),
    _mutant(
        "lanes: not before its time",
        "lanes.py",
        ("ready_lane", "|= Q(run_at__gt=DatabaseNow())", "|= Q(pk=0)"),
        by="lifecycle: a task whose time has not come stands in no lane after a pause",
    ),
    _mutant(
        "lanes: not before another has ended",
        "lanes.py",
        ("ready_lane", "|= Q(after__isnull=False)", "|= Q(pk=0)"),
        by="following: a paused task still waits for the other when it is resumed",
    ),
    *(
        _mutant(
            f"following: the other {which}",
            "dialect.py",
            ("predecessors", text, ""),
            by="following: it waits while the other may still run",
        )
        for which, text in {
            "has ended": "task.ended_at IS NOT NULL AND ",
            "is not retried": "task.retry_at IS NULL AND ",
            "has no body": " AND NOT task.occupies",
        }.items()
    ),
]

SWEEPS = [
    _mutant(
        "sweep: retry",
        "dispatch.py",
        ("make_pass", "retry_failed_tasks()", "pass"),
        by="retries: one poisoned row stops neither the sweep nor the dispatcher p1",
    ),
    _mutant(
        "sweep: rescue",
        "rescue.py",
        ("rescue_lost_tasks", "*_held_by_lost_workers(), ", ""),
        by="rescue: a silent worker is declared lost and its task runs again p1",
    ),
    _mutant(
        "sweep: release",
        "rescue.py",
        (
            "rescue_from_worker",
            "freed = lifecycle.release(row.pk, row.attempt)",
            "freed = 0",
        ),
        by="rescue: a body that was told to stop is gone with its worker p4",
    ),
    _mutant(
        "sweep: resend",
        "resending.py",
        ("resend_unclaimed", "_send_again([task.pk", "len([task.pk"),
        by="resending: a message that nobody claimed is sent again p1",
    ),
    _mutant(
        "sweep: one poisoned row stops no other retry",
        "retries.py",
        ("_retry_one", "except Exception:", "except ZeroDivisionError:"),
        by="retries: one poisoned row stops neither the sweep nor the dispatcher p1",
    ),
    _mutant(
        "lost: after its silence",
        "rescue.py",
        (
            "_declare_lost",
            "        last_seen_at__lt=DatabaseNow() - seconds(conf.WORKER_LOST_AFTER),\n",
            "",
        ),
        by="rescue: while a worker gives signs of life nothing is rescued",
    ),
    _mutant(
        "lost: not if it left",
        "rescue.py",
        ("_declare_lost", "left_at=None,", ""),
        by="rescue: a worker that left in order is never called lost",
    ),
    _mutant(
        "lost: once",
        "rescue.py",
        ("_declare_lost", "lost_at=None,", ""),
        by="rescue: a worker is declared lost once",
    ),
    _mutant(
        "rescue: only from workers that are gone",
        "rescue.py",
        ("_held_by_lost_workers", ".exclude(worker__in=there)", ""),
        by="rescue: while a worker gives signs of life nothing is rescued",
    ),
    _mutant(
        "rescue: not what nobody holds for its time",
        "rescue.py",
        ("_held_by_nobody", "> row.timeout + AT_ONCE_GRACE", "> -1"),
        by="rescue: a body that belongs to no worker is left alone",
    ),
    _mutant(
        "rescue: what left in order is not counted",
        "rescue.py",
        ("rescue_from_worker", "and worker.left_at is not None", "and False"),
        by="rescue: a worker that left in order gives its tasks back uncounted",
    ),
    _mutant(
        "rescue: leaves what somebody holds",
        "rescue.py",
        (
            "_rescue_safely",
            "skip_locked(TaskLog.objects.filter(pk=row.pk))",
            "TaskLog.objects.filter(pk=row.pk)",
        ),
        by="rescue: a row that somebody holds does not stop the sweep",
        on=POSTGRESQL,
    ),
    _mutant(
        "lost: not more often than the limit",
        "rescue.py",
        ("lose", " and times <= conf.LOST_LIMIT", ""),
        by="rescue: a task that was lost too often fails p1",
    ),
    _mutant(
        "lost: only what may run twice",
        "rescue.py",
        ("lose", "_on_lost(row) == OnLost.RERUN and ", ""),
        by="rescue: what must not run twice fails when it is lost",
    ),
    _mutant(
        "resend: a limited number of times",
        "resending.py",
        ("resend_unclaimed", "task.sent_count >= conf.RESEND_LIMIT", "False"),
        by="resending: after the last message the task goes back with the reason p1",
    ),
    _mutant(
        "resend: still queued",
        "resending.py",
        ("_take", "status=Status.QUEUED, ", ""),
        by="resending: what was claimed while a sweep looked is not sent again",
    ),
    _mutant(
        "resend: once among sweeps",
        "resending.py",
        ("_take", ", sent_at__lt=overdue", ""),
        by="resending: sweeps at once send each message once",
        on=POSTGRESQL,
    ),
    _mutant(
        "resend: leaves what somebody holds",
        "resending.py",
        ("_take", 'skip_locked(rows.order_by("pk"))', "rows"),
        by="resending: a row that somebody holds does not stop the sweep",
        on=POSTGRESQL,
    ),
    _mutant(
        "resend: only where a worker is idle",
        "resending.py",
        ("_overdue", "            queue__in=queues,\n", ""),
        ("_overdue", "if not queues:", "if False:"),
        by="resending: what no free worker could have claimed is not sent again",
    ),
    _mutant(
        "resend: after a growing time",
        "resending.py",
        ("_overdue", " * 2**count", ""),
        by="resending: the time until the next message doubles",
    ),
]

BODIES = [
    _mutant(
        "claim: by a worker that has a row",
        "execution.py",
        ("claim", "if here.in_worker and here.worker_id is None:", "if False:"),
        by="execution: a worker that has no row runs nothing p1",
    ),
    _mutant(
        "claim: once for signal and body",
        "claims.py",
        ("of", "if not hasattr(request, _CLAIM):", "if True:"),
        by="signals: the body takes over the claim of the signal",
    ),
    _mutant(
        "claim: not run when it was refused",
        "execution.py",
        ("run", "row is not None and ", ""),
        by="execution: a duplicate message runs nothing p3",
    ),
    _mutant(
        "end: written once among body and signals",
        "claims.py",
        ("unfinished", "if getattr(request, _ENDED, False):", "if False:"),
        by="test_signals.py",
    ),
    _mutant(
        "end: a refused one frees its place",
        "ends.py",
        ("write_end", "lifecycle.release(row.pk, row.attempt)", "True"),
        by="execution: a superseded attempt changes nothing and frees its place p3",
    ),
    _mutant(
        "end: on a connection that works",
        "ends.py",
        ("write_end", "leftovers.roll_back_what_is_open()", "pass"),
        by="execution: whatever a body breaks its end is written and the next one runs",
    ),
    _mutant(
        "end: tried again while the database is away",
        "ends.py",
        ("_persistently", "OperationalError, InterfaceError, ", ""),
        by="execution: the end is written when the database comes back",
    ),
    _mutant(
        "atomic: rolled back when the end is refused",
        "ends.py",
        ("_finish_or_roll_back", "raise TaskCanceled", "pass"),
        by="ends: nothing of a superseded body stays p3",
        on=POSTGRESQL,
    ),
]

KEYS = [
    _mutant(
        "key: of tasks that have not ended",
        "keys.py",
        ("holders", "        unended | Q(task__retry_at__isnull=False),\n", ""),
        by="keys: an ended task holds nothing",
    ),
    _mutant(
        "key: also while a retry is due",
        "keys.py",
        ("holders", " | Q(task__retry_at__isnull=False)", ""),
        by="keys: a failed task whose retry is due holds its key",
    ),
    _mutant(
        "key: not of what can never start",
        "keys.py",
        ("holders", '        may_run("task__"),\n', ""),
        by="keys: a task that expired while nobody looked holds nothing unless it runs",
    ),
    _mutant(
        "key: taken by one",
        "keys.py",
        ("lock", '_write(rows, "slot")', "pass"),
        by="keys: of many who take a key at once one gets it",
        on=POSTGRESQL,
    ),
    _mutant(
        "key: in one order",
        "keys.py",
        ("lock", "sorted(set(first))", "dict.fromkeys(first)"),
        by="keys: keys are locked in one order whatever the call says",
        on=POSTGRESQL,
    ),
    _mutant(
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
    _mutant(
        "key: not taken from another by a retry",
        "keys.py",
        ("regain", "if others:", "if False:"),
        by="keys: a retry by hand is refused while another has the key",
    ),
    _mutant(
        "key: locked before a call is let in",
        "deduplication.py",
        ("_holders_for", "keys.lock(uncertain)", "keys.holders(uncertain)"),
        by="deduplication: of many calls at once one makes a task",
        on=POSTGRESQL,
    ),
    _mutant(
        "key: arguments only to what still waits",
        "deduplication.py",
        ("_replace", "filter(waits, pk", "filter(pk"),
        by="deduplication: replace against the claim reaches the body or says that it did not",
        on=POSTGRESQL,
    ),
]

BATCHES = [
    _mutant(
        "batch: one settler at a time",
        "settling.py",
        ("_taken", "skip_locked(rows)", "rows"),
        by="settling: many who end a batch at once insert each callback once",
        on=POSTGRESQL,
    ),
    _mutant(
        "batch: looks again with the row held",
        "settling.py",
        ("_settle", " or not _ended([batch_id]).exists()", ""),
        by="settling: a task that joins while its batch ends keeps the batch open p9",
        on=POSTGRESQL,
    ),
    _mutant(
        "batch: each callback once for all time",
        "settling.py",
        ("_called_back", 'if callback.get("task") is None:', "if True:"),
        by="settling: each callback is inserted once for all time",
    ),
    _mutant(
        "batch: a retry that is due is no end",
        "batches.py",
        ("unended_member", "*alive, _one(retrying)", "*alive"),
        by="settling: a failure whose retry is due is no end",
    ),
    _mutant(
        "batch: a retry that is due is no failure",
        "batches.py",
        ("failed_member", "retry_at=None, ", ""),
        by="settling: an automatic retry is not yet a failure",
    ),
    _mutant(
        "batch: a resume forgives",
        "batches.py",
        ("failed_member", ", ended_at__gt=resumed", ""),
        by="settling: a batch that was resumed goes on in spite of the failure",
    ),
    _mutant(
        "batch: a canceled one takes no tasks",
        "batches.py",
        ("_grow", ", canceled_at=None", ""),
        by="batchcontrol: a canceled batch takes no more tasks",
    ),
    _mutant(
        "batch: paused and resumed one at a time",
        "batchcontrol.py",
        ("_hold_page", ".select_for_update()", ""),
        by="locking: a pause waits for the resume of its batch and holds nothing then",
        on=POSTGRESQL,
    ),
]

OTHERS = [
    _mutant(
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
    _mutant(
        "schedule: not beside its last run",
        "firing.py",
        ("_run_or_skip", "if before is not None:", "if False:"),
        by="schedules: a run is skipped on record while the last one is active",
    ),
    _mutant(
        "schedule: not while a body may run",
        "firing.py",
        ("active_run_of", " and not row.occupies", ""),
        by="schedules: a canceled run whose body is not gone is still active",
    ),
    _mutant(
        "prune: only what has ended",
        "pruning.py",
        ("_delete_first", "rows.ended().filter", "rows.filter"),
        by="pruning: tasks are deleted by hand only when they have ended",
    ),
    _mutant(
        "prune: not while a body may run",
        "pruning.py",
        ("_delete_first", ".filter(occupies=False)", ""),
        by="pruning: a body that still runs keeps its row p4",
    ),
    _mutant(
        "prune: leaves what somebody holds",
        "pruning.py",
        ("_delete_first", "skip_locked(", "("),
        by=(
            "pruning: a row that somebody holds is left",
            "pruning: two who prune at once count each member once p9",
        ),
        on=POSTGRESQL,
    ),
]

MUTANTS = [*LIFECYCLE, *DISPATCH, *SWEEPS, *BODIES, *KEYS, *BATCHES, *OTHERS]
#: A guard of each kind, whose tests take few seconds: for every run of CI.
QUICK = (
    "promote: no body in its place",
    "end: same attempt",
    "release: not on its way",
    "limit: counts what this pass has chosen",
)


def main(argv: Sequence[str]) -> int:
    """Judge the mutants whose names contain one of the given words, or all; 1 if one lives."""
    parser = argparse.ArgumentParser(prog="python -m tests.model.mutants")
    parser.add_argument("words", nargs="*", help="parts of names; default: all")
    parser.add_argument("--at-once", type=int, default=2)
    given = parser.parse_args(argv)
    began = time.monotonic()
    chosen = [
        mutant
        for mutant in MUTANTS
        if not given.words or any(word in mutant.name for word in given.words)
    ]
    worst = 0
    for verdict in judge_all(chosen, at_once=given.at_once):
        told = f"killed by {verdict.killer}" if verdict.killer else "LIVES"
        trouble = f"\n    {verdict.trouble}" if verdict.trouble else ""
        print(f"{verdict.mutant.name}: {told}{trouble}", flush=True)  # noqa: T201
        worst |= not verdict.well
    took = time.monotonic() - began
    told = "not all killed" if worst else "all killed"
    print(f"{len(chosen)} mutants in {took:.0f} s: {told}")  # noqa: T201
    return int(worst)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
