"""Guards of a dispatch pass: who makes it, and what it may promote."""

from __future__ import annotations

from tests.model.mutants.making import POSTGRESQL, mutant

MUTANTS = [
    mutant(
        "pass: one at a time",
        "turns.py",
        ("_build_turn", ".select_for_update()", ""),
        by=(
            "dispatch: eight passes at once never exceed a limit p4",
            "dispatch: one pass at a time",
        ),
        on=POSTGRESQL,
    ),
    mutant(
        "pass: leaves what somebody holds",
        "dispatch.py",
        ("build", "skip_locked(rows)", "rows"),
        by="dispatch: a row that somebody holds is skipped and stops nobody",
        on=POSTGRESQL,
    ),
    mutant(
        "pass: promotes nothing that somebody holds",
        "dialect.py",
        ("unless_locked", "skip_locked(rows.order_by", "(rows.order_by"),
        by="dispatch: a row that somebody holds is skipped and stops nobody",
        on=POSTGRESQL,
    ),
    mutant(
        "pass: looks behind what somebody holds",
        "dispatch.py",
        ("_promote", "not careful and len(moved) < len(chosen)", "False"),
        by="dispatch: a row that somebody holds is skipped and stops nobody",
        on=POSTGRESQL,
    ),
    mutant(
        "pass: what somebody holds counts in no rate",
        "dispatch.py",
        ("_promote", "rated(fronts, moved)", "rated(fronts, set(chosen))"),
        by="dispatch: what somebody holds counts in no rate",
        on=POSTGRESQL,
    ),
    mutant(
        "pass: a lane of which more is to be read",
        "fronts.py",
        ("_lane", "None if head.more else head", "head"),
        by="dispatch: messages are sent in the order of promotion p5",
    ),
    mutant(
        "pass: still pending when locked",
        "dispatch.py",
        ("_pending", ", status=Status.PENDING", ""),
        by="dispatch: a task that is paused while a pass looks gives its slot to the next",
    ),
    mutant(
        "pass: not of a batch that is held",
        "dispatch.py",
        ("_lock", "if held:", "if False:"),
        by="settling: from the failure on no pass sends what is held",
    ),
    mutant(
        "pass: not while suspended",
        "dispatch.py",
        ("_use_turn", "if state.suspended:", "if False:"),
        by="dispatch: while suspended nothing is promoted",
    ),
    mutant(
        "pass: sends nothing while the broker is away",
        "choosing.py",
        ("_take", "not broker_away and ", ""),
        by="hands: a pass without the broker promotes nothing for other workers p1",
    ),
    mutant(
        "pass: what was not sent goes back",
        "dispatch.py",
        ("_send", "lifecycle.unsend(", "(lambda *_, **__: 0)("),
        by="dispatch: what the broker does not take waits with the reason p1",
    ),
    mutant(
        "limit: counts the places that are taken",
        "fronts.py",
        ("_lane", "limit - occupancy.by_type[method]", "limit"),
        by="dispatch: a limit counts what is sent running and stopping p4",
    ),
    mutant(
        "limit: counts what this pass has chosen",
        "choosing.py",
        ("choose", "= free - 1", "= free"),
        by="dispatch: a limit holds over queues and priorities p4",
    ),
    mutant(
        "limit: nothing beyond it",
        "choosing.py",
        ("choose", " or free <= 0", ""),
        by="dispatch: a limit holds over queues and priorities p4",
    ),
    mutant(
        "limit: a body holds its place until it is gone",
        "occupancy.py",
        (
            "_build_held",
            "filter(occupies=True)",
            'filter(occupies=True, status__in=("Queued", "Started"))',
        ),
        by="dispatch: a limit counts what is sent running and stopping p4",
    ),
    mutant(
        "slots: a rest of the lookahead is none",
        "slots.py",
        ("any_left", "pool.lookahead >= LEAST", "pool.lookahead > 0"),
        by="slots: nothing is left where a body that is not short holds each slot",
    ),
    mutant(
        "slots: nothing without one",
        "choosing.py",
        (
            "choose",
            "if not _take(front, slots, broker_away=broker_away):",
            "_take(front, slots, broker_away=broker_away)\n        if False:",
        ),
        by="dispatch: a pass promotes what finds a slot and sends it",
    ),
    mutant(
        "slots: nobody overtakes within a queue",
        "choosing.py",
        ("choose", "closed.add(lane.queue)", "pass"),
        by="dispatch: what is short does not overtake what waits for a slot of the same queue p5",
    ),
    *(
        mutant(
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
    mutant(
        "pauses: of queues and types hold",
        "fronts.py",
        ("waiting_lanes", " and not head.held", ""),
        by="dispatch: a pause holds its own back and nobody else",
    ),
    mutant(
        "lanes: not while the body before may run",
        "lanes.py",
        ("ready_lane", "Q(occupies=True)", "Q(pk=0)"),
        by="lifecycle: a retry waits for the body of the attempt before p4",
    ),
    mutant(
        "lanes: not before its time",
        "lanes.py",
        ("ready_lane", "|= Q(run_at__gt=DatabaseNow())", "|= Q(pk=0)"),
        by="lifecycle: a task whose time has not come stands in no lane after a pause",
    ),
    mutant(
        "lanes: not before another has ended",
        "lanes.py",
        ("ready_lane", "|= Q(after__isnull=False)", "|= Q(pk=0)"),
        by="following: a paused task still waits for the other when it is resumed",
    ),
    *(
        mutant(
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
