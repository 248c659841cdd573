"""Guards of the account: what counts as amiss, and what it may write down."""

from __future__ import annotations

from tests.model.mutants.making import mutant

OLD_WORD = "accounting: the old word of a worker confirms nothing"

MUTANTS = [
    mutant(
        "account: seen twice",
        "accounting/looks.py",
        ("confirmed", "one in before and ", ""),
        by="accounting: what is seen for the first time is no incident yet",
    ),
    mutant(
        "account: on a newer word",
        "accounting/looks.py",
        ("confirmed", " and (one.word_of is None or one.word_of > first.facts.at)", ""),
        by=OLD_WORD,
    ),
    *(
        mutant(
            f"account: of workers that {which}",
            "accounting/looks.py",
            ("_live_workers", text, ""),
            by="accounting: a started task whose worker is gone is lost p1",
        )
        for which, text in {
            "have not left": "left_at=None, ",
            "are not lost": "lost_at=None, ",
            "give signs": ", last_seen_at__gt=since",
        }.items()
    ),
    mutant(
        "account: its numbers are bounded",
        "accounting/looks.py",
        ("look", "[: conf.SWEEP_PAGE]", ""),
        by="accounting: the numbers of a look are bounded",
    ),
    mutant(
        "account: its rows are bounded",
        "accounting/looks.py",
        ("_occupying", "[:MOST_ROWS]", ""),
        by="accounting: the numbers of a look are bounded",
    ),
    mutant(
        "account: a broker that is away stops no look",
        "accounting/looks.py",
        ("_messages", "except BrokerUnavailable as error:", "except KeyError as error:"),
        by="accounting: without the broker no message is missed",
    ),
    mutant(
        "account: what runs at once has its time",
        "accounting/places.py",
        ("of_places", " and _is_abandoned(facts, row)", ""),
        by="accounting: tasks that run at once in a web process are no workers",
    ),
    mutant(
        "account: what ran at once is missed at last",
        "accounting/places.py",
        ("of_places", "elif row.occupies and _is_abandoned(facts, row):", "elif False:"),
        by="accounting: what ran at once in a process that is gone is seen p1",
    ),
    mutant(
        "lost message: not just after it was sent",
        "accounting/places.py",
        ("_queued", " or facts.at - row.queued_at < seconds(patience)", ""),
        by="accounting: what was sent just now is not missed yet",
    ),
    mutant(
        "lost message: not while it waits",
        "accounting/places.py",
        ("_queued", " or key in facts.asked_for", ""),
        by="accounting: where all is well nothing is found and one look is enough",
    ),
    mutant(
        "lost message: not while a worker has it",
        "accounting/places.py",
        ("_queued", " or key in facts.holders", ""),
        by="test_accounting.py",
    ),
    mutant(
        "lost message: not where some were not read",
        "accounting/places.py",
        ("_queued", "facts.unread or ", ""),
        by="accounting: without the broker no message is missed",
    ),
    mutant(
        "lost claim: of what was claimed no message is missed",
        "accounting/places.py",
        ("_queued", "if row.worker_id is not None:", "if False:"),
        by="accounting: a claimed task whose worker is gone is lost p1",
    ),
    mutant(
        "lost claim: not while its worker names it",
        "accounting/places.py",
        ("_claimed", "list(key) not in worker.held and ", ""),
        by="accounting: a task that its worker claimed as it was sent needs no message",
    ),
    mutant(
        "lost claim: not where its worker cannot name all",
        "accounting/places.py",
        ("_claimed", " and len(worker.held) < MOST_NAMED", ""),
        by="accounting: what a worker holds beyond those it can name is not missed",
    ),
    mutant(
        "lost body: not just after its claim",
        "accounting/places.py",
        (
            "_names",
            "bool(worker.last_seen_at - row.started_at < seconds(CLAIM_TAKES))",
            "False",
        ),
        by="accounting: a claim of this moment is not in the last word of its worker",
    ),
    mutant(
        "lost body: not while its worker names it",
        "accounting/places.py",
        ("_names", "[row.pk, row.attempt] in worker.held or ", ""),
        by="accounting: where all is well nothing is found and one look is enough",
    ),
    mutant(
        "lost body: of a worker",
        "accounting/places.py",
        ("of_places", " and row.worker_id is not None", ""),
        by="accounting: tasks that run at once in a web process are no workers",
    ),
    mutant(
        "late body: has its grace",
        "accounting/places.py",
        ("_is_late", " and facts.at - since > seconds(patience)", ""),
        by="accounting: a body that was told to stop has its grace",
    ),
    mutant(
        "ghost: not what is just beginning",
        "accounting/matching.py",
        ("_of_messages", "(messages and not _is_beginning(row, key))", "messages"),
        by="accounting: the message of what is just beginning may not be acknowledged yet",
    ),
    mutant(
        "ghost: for another attempt than the one that is sent",
        "accounting/matching.py",
        ("_of_messages", " and row.attempt == key[1]", ""),
        by="accounting: a message for an attempt that never was is a ghost p3",
    ),
    mutant(
        "ghost: not what is left of a task that is sent no more",
        "accounting/matching.py",
        ("_is_left_over", "row.attempt > key[1] or row.status not in ACTIVE", "False"),
        by=(
            "accounting: a cancel of what was sent leaves nothing to tell",
            "accounting: what is left of an earlier attempt is no ghost",
        ),
    ),
    mutant(
        "left over: not of what runs",
        "accounting/matching.py",
        ("_is_left_over", " or row.status not in ACTIVE", " or True"),
        by="accounting: a message that waits for an attempt which runs is a ghost p3",
    ),
    mutant(
        "left over: of an attempt that was",
        "accounting/matching.py",
        ("_is_left_over", " or not 0 < key[1] <= row.attempt", ""),
        by="accounting: a message for an attempt that never was is a ghost p3",
    ),
    mutant(
        "left over: as the dispatcher named it",
        "accounting/matching.py",
        ("_is_left_over", " and message.celery_task_id == name", ""),
        by="accounting: a message that the dispatcher did not name is a ghost p3",
    ),
    mutant(
        "double: the message itself stays",
        "accounting/matching.py",
        ("_of_messages", "spare if len(spare) < len(messages) else spare[1:]", "spare"),
        by="accounting: two messages for one attempt are a double and one is too many p3",
    ),
    mutant(
        "strangers: messages of another site are not ours",
        "accounting/evidence.py",
        ("asked_for", " and not self.strange(message)", ""),
        by="accounting: messages of another site are told and never removed",
    ),
    mutant(
        "zombie: not after its own end",
        "accounting/matching.py",
        (
            "_why_zombie",
            "if (run is None and row.attempt != key[1]) or not _was_given_up(run, row):",
            "if False:",
        ),
        by="accounting: after its end a process may be busy with what is called then",
    ),
    mutant(
        "zombie: not one that is told to stop",
        "accounting/matching.py",
        ("_why_zombie", "if row.attempt == key[1] and row.occupies:", "if False:"),
        by="accounting: a body whose worker is told to go has its grace",
    ),
    mutant(
        "account: nothing is over because the broker is away",
        "accounting/sweep.py",
        ("write_down", "if not account.last.broker_answered:", "if False:"),
        by="accounting: nothing is over because the broker did not answer",
    ),
    mutant(
        "account: ends only what it finds itself",
        "accounting/sweep.py",
        ("write_down", "kind__in=OURS, ", ""),
        by="accounting: what the referee wrote is not ended by an account",
    ),
    mutant(
        "account: ends nothing that was seen since",
        "accounting/sweep.py",
        ("write_down", ", last_at__lte=account.last.facts.at", ""),
        by="accounting: a look of long ago ends nothing that was seen since",
    ),
    mutant(
        "account: ends nothing that still stands",
        "accounting/sweep.py",
        (
            "write_down",
            "if (row.kind, row.task_id, row.attempt, row.key) not in seen:",
            "if True:",
        ),
        by="accounting: what is still seen is not over though it is not confirmed",
    ),
    mutant(
        "account: tells a body to stop once",
        "accounting/sweep.py",
        ("tell_to_stop", "if not told.exists():", "if True:"),
        by="accounts: a body that was given up is to be ended and that is asked once",
    ),
    mutant(
        "account: waits between its looks",
        "accounting/sweep.py",
        ("run", "elif time.monotonic() >= self._go_on_at:", "else:"),
        by="accounting: the sweep needs two looks and waits for nothing",
    ),
    mutant(
        "account: one worker at a time",
        "accounting/sweep.py",
        ("_take_turn", "filter(due)", "all()"),
        by="accounting: one worker of all accounts at a time",
    ),
    mutant(
        "messages: read up to a bound",
        "accounting/messages.py",
        ("_read_redis", "pipe.lrange(name, -MOST_READ, -1)", "pipe.lrange(name, 0, -1)"),
        by="messages: a long queue is read up to a bound and says so",
    ),
    mutant(
        "messages: what cannot be read stops nothing",
        "accounting/messages.py",
        ("_in_queue", "except Exception as error:", "except KeyError as error:"),
        by="messages: what cannot be read is told and stops nothing",
    ),
    mutant(
        "messages: numbers that a row can have",
        "accounting/messages.py",
        ("_is_number", " and 0 <= value <= most", ""),
        by="messages: arguments that are no attempt are told",
    ),
    mutant(
        "incident: two who find it write one",
        "incidents.py",
        ("report", "except IntegrityError:", "except KeyError:"),
        by="incidents: two who find the same at once write one row",
    ),
    mutant(
        "incident: over once",
        "incidents.py",
        ("resolve", "unresolved().filter", "Incident.objects.filter"),
        by="incidents: what is over is no sign of trouble and begins anew when it comes back",
    ),
    mutant(
        "incident: mended ones are over",
        "incidents.py",
        ("report", "same.update(resolved_at=DatabaseNow())", "pass"),
        by="incidents: what is over is no sign of trouble and begins anew when it comes back",
    ),
    mutant(
        "late end: not of one that ended itself",
        "ends.py",
        ("_report_zombie", " and _of_same_run(now) == _of_same_run(row)", ""),
        by="incidents: the end of an attempt that failed as lost is written down p3",
    ),
    mutant(
        "late end: of one that waits again",
        "ends.py",
        ("_report_zombie", "now.status in TERMINAL and ", ""),
        by="incidents: the end of an attempt that was given back is written down p3",
    ),
    mutant(
        "forcing: only of a body that was told",
        "forcing.py",
        ("_stoppable", "ended_at__lt=long_ago, ", ""),
        by="forcing: a body that cannot be forced is refused",
    ),
    *(
        mutant(
            f"forcing: {which}",
            "forcing.py",
            ("_stoppable", text, ""),
            by="forcing: a worker that cannot kill is not asked",
        )
        for which, text in {
            "of children": 'pool="prefork", ',
            "by a worker that has not left": "left_at=None, ",
            "by a worker that is not lost": ", lost_at=None",
        }.items()
    ),
    mutant(
        "forcing: of this attempt",
        "forcing.py",
        ("is_wanted", ", attempt=row.attempt", ""),
        by="test_forcing.py",
    ),
    mutant(
        "forcing: of these attempts",
        "forcing.py",
        ("wanted_of", "set(attempts) & ", ""),
        by="test_forcing.py",
    ),
]
