"""Guards of what a worker gives to its own children by hand, and of what these begin."""

from __future__ import annotations

from tests.model.mutants.making import POSTGRESQL, mutant

LEAVES = "hands: who leaves gives back what has not begun uncounted p1"
ORDER = "hands: what a child did not begin waits in its order before the rest p5"
LINGERS = "atwork: celery gives nothing to a child at which a short type takes long"
CELERYS = "hands: a job of celerys that waits for the child comes first p4"
LONG = "hands: celery gives nothing to a child that is at something long p4"
REFUSED = "hands: a refusal frees the place p4"
ONLY_THIS = "atwork: a signal is sent only while this attempt runs p6"
OVER = "atwork: a body that goes on after its grace has failed and holds its place p4"
COLD = "atwork: a cold stop gives the task back uncounted and ends the body p1"
GROUPED, REPORTED = "lifecycle/grouped.py", "lifecycle/reported.py"

MUTANTS = [
    mutant(
        "hands: what runs is named first",
        "hands.py",
        ("keys", "key=lambda key: key not in at_work", "key=lambda key: key in at_work"),
        by="hands: what runs is named first of what this worker vouches for p3",
    ),
    # Giving
    mutant(
        "give: nothing to a child that celery has given something",
        "hand.py",
        ("is_free", "return not marked or self.marked", "return True"),
        by="hands: a child to which celery has given something is given nothing p4",
    ),
    mutant(
        "give: nothing to a child that is about to end",
        "hand.py",
        ("is_free", "self.page.halt or ", ""),
        by="hands: nothing is given to a child whose process may be about to end p1",
    ),
    mutant(
        "give: nothing to a child that says no word",
        "hand.py",
        ("is_free", " or self.silent", ""),
        by="atwork: a child that begins nothing is given nothing until it says a word",
    ),
    mutant(
        "give: who gave something back rests",
        "hand.py",
        ("is_free", "now < self.rests_until or ", ""),
        by="hands: what a child did not begin waits again and the child rests",
    ),
    mutant(
        "give: marked for celery when it is long",
        "hand.py",
        ("take", "if not one.short:", "if False:"),
        by=LONG,
    ),
    mutant(
        "give: marked again when celery has forgotten it",
        "atwork.py",
        ("look", "if hand.marked:", "if False:"),
        by=LONG,
    ),
    mutant(
        "give: unmarked when it is done",
        "hand.py",
        ("unmark", "self._busy.discard(self.process.inqW_fd)", "pass"),
        by=LONG,
    ),
    mutant(
        "give: not unmarked when celery has marked it",
        "hand.py",
        ("unmark", "if not self.marked or any(", "if any("),
        by="hands: what celery has marked itself stays marked",
    ),
    mutant(
        "give: not unmarked while something long is there",
        "hand.py",
        (
            "unmark",
            " or any(one.keeps_its_child for one in self.given.values())",
            "",
        ),
        by="atwork: what waits behind a body that lingers leaves its child marked",
    ),
    mutant(
        "give: unmarked when all that is long is done",
        "hand.py",
        (
            "unmark",
            "any(one.keeps_its_child for one in self.given.values())",
            "self.given",
        ),
        by="atwork: a child is unmarked when what lingers is over though it has begun the next",
    ),
    mutant(
        "give: celery is told of a child that it can have",
        "hand.py",
        ("unmark", "self._boot.in_loop(_wake_up)", "pass"),
        by=CELERYS,
    ),
    mutant(
        "give: what waits for celery comes before the deck",
        "hand.py",
        ("unmark", "self.rest()", "pass"),
        by=CELERYS,
    ),
    mutant(
        "give: a child rests only when celery has a job",
        "hand.py",
        ("unmark", 'if getattr(self._pool, "outbound_buffer", None):', "if True:"),
        by="hands: a child that is free again rests for nobody",
    ),
    mutant(
        "give: marked when what is short takes long",
        "hand.py",
        ("linger", "self.mark()", "pass"),
        by=LINGERS,
    ),
    mutant(
        "give: known to take long",
        "hand.py",
        ("linger", "one.lingers = True", "pass"),
        by="hands: a body of a short type is looked at until it is known to linger",
    ),
    mutant(
        "give: not marked over celerys own mark",
        "hand.py",
        ("linger", "if self.process.inqW_fd not in self._busy:", "if True:"),
        by="atwork: a child that celery has given something stays marked by it when a body "
        "lingers",
    ),
    mutant(
        "give: the last answers need no pool",
        "hand.py",
        (
            "_busy",
            'getattr(self._pool, "_busy_workers", None)',
            "self._pool._busy_workers",
        ),
        by="hands: what a child said last is heard when celerys pool has ended p1",
    ),
    mutant(
        "at work: whoever writes its begin is looked at soon",
        "hands.py",
        ("_pause", "not one.keeps_its_child", "not one.told_begun"),
        by="hands: a body of a short type is looked at until it is known to linger",
    ),
    mutant(
        "give: unmarked when it has died",
        "atwork.py",
        ("bury", "        hand.unmark()\n", ""),
        by="atwork: a child that died is unmarked",
    ),
    mutant(
        "give: what may be long waits behind nothing",
        "hand.py",
        ("best", "if not one.short:", "if False:"),
        by="hands: what may be long waits behind nothing",
    ),
    mutant(
        "give: nothing waits behind what may be long",
        "hand.py",
        ("best", "and all(other.short for other in hand.given.values())", ""),
        by="hands: nothing waits behind what may be long",
    ),
    mutant(
        "give: a little work at once",
        "hand.py",
        ("best", "loads[id(hand)] + one.seconds <= GIVEN", "True"),
        by="hands: a child is given no more than a little work at once",
    ),
    mutant(
        "give: no more than the line takes in",
        "hand.py",
        ("best", "and hand.bytes + one.bytes <= min(BYTES, hand.line.room)", ""),
        by="hands: a child is given no more than its line takes in",
    ),
    mutant(
        "give: nothing after the lease",
        "hands.py",
        ("_give", " or not lines.lease.holds()", ""),
        by="hands: nothing is given after the lease p3",
    ),
    mutant(
        "give: nothing by who leaves",
        "hands.py",
        ("_give", "self.boot.leaving or ", ""),
        by="hands: who leaves gives nothing more",
    ),
    mutant(
        "offer: none after the lease",
        "hands.py",
        ("offer", " or not lines.lease.holds()", ""),
        by="hands: nothing is given after the lease p3",
    ),
    mutant(
        "offer: none by who leaves",
        "hands.py",
        ("offer", "self.boot.leaving or ", ""),
        by="hands: who leaves offers nothing",
    ),
    mutant(
        "offer: none without a row",
        "hands.py",
        ("offer", " or worker is None", ""),
        by="hands: who has no row offers nothing",
    ),
    mutant(
        "offer: none while somebody watches celery",
        "hands.py",
        ("offer", "if watchers.wants_events(", "if None is watchers.wants_events("),
        by="hands: who is watched offers nothing",
    ),
    mutant(
        "offer: what waits has a place",
        "hands.py",
        ("offer", " - len(self.deck.waiting)", ""),
        by="hands: what waits for a child has one in its place",
    ),
    mutant(
        "deck: what has more to tell is claimed by its child",
        "deck.py",
        ("is_simple", 'and not options.get("atomic")', ""),
        by="hands: what has more to tell than its end is claimed by its child",
    ),
    mutant(
        "deck: what must not begin twice is claimed by its child",
        "deck.py",
        ("is_simple", "and not _begins_once(options, taken)", ""),
        by="hands: what must not begin twice is claimed by its child p3",
    ),
    mutant(
        "deck: a pass asks whether its type may begin again",
        "choosing.py",
        ("_take", ", once=lane.once", ""),
        by="hands: a pass asks whether the type may begin again p3",
    ),
    # Giving back
    mutant(
        "give back: each has its place on the deck",
        "deck.py",
        ("put", "one.order = next(self._order)", "pass"),
        by=ORDER,
    ),
    mutant(
        "give back: waits at its place",
        "deck.py",
        (
            "put_back",
            'insort(self.waiting, one, key=attrgetter("order"))',
            "self.waiting.appendleft(one)",
        ),
        by=ORDER,
    ),
    mutant(
        "give back: it lingers no more",
        "deck.py",
        ("put_back", "one.lingers = False", "pass"),
        by="deck: what comes back has lingered nowhere",
    ),
    mutant(
        "give back: what others are giving back is theirs",
        "deck.py",
        ("drop", " or one not in self.waiting", ""),
        by=(
            "deck: what others are giving back is not dropped p4",
            "hands: a canceled task that is being given back breaks no look at the others p4",
        ),
    ),
    mutant(
        "give back: by who leaves",
        "hands.py",
        ("_turn", "if self.boot.leaving:", "if False:"),
        by=LEAVES,
    ),
    mutant(
        "give back: the child is told first",
        "atwork.py",
        ("take_back", "hand.page.taken_back = hand.number", "pass"),
        by=LEAVES,
    ),
    mutant(
        "give back: nothing that has begun",
        "hand.py",
        ("unbegun", " if number > begun", ""),
        by="atwork: a body that began meanwhile is not taken back p3",
    ),
    mutant(
        "give back: what waits for long",
        "hands.py",
        ("_give_back_what_waits_long", "keys = self.deck.take_waiting()", "return"),
        by="hands: what waits long for a child is for others",
    ),
    mutant(
        "give back: a place that was canceled meanwhile is free",
        "hands.py",
        ("_let_go", "lifecycle.release(*key)", "pass"),
        by=REFUSED,
    ),
    mutant(
        "give back: by the worker that has claimed it",
        "hands.py",
        ("_let_go", ", worker_id=here.worker_id)", ")"),
        by=REFUSED,
    ),
    mutant(
        "give back: what was refused",
        "hands.py",
        ("_hear", "elif answer.what == lines.REFUSED:", "elif False:"),
        by=REFUSED,
    ),
    mutant(
        "give back: no answer to what was taken back counts",
        "hands.py",
        (
            "_hear",
            "one = hand.given.pop(answer.number, None)",
            "one = hand.given.pop(answer.number, None) or next("
            "iter([*self.deck.waiting, None]))",
        ),
        by="hands: the answer to what was taken back is nobodys",
    ),
    mutant(
        "forget: what is with a child",
        "hands.py",
        ("forget", "self.deck.settle(list(self.deck.all))", "pass"),
        by="hands: who was declared lost forgets all that others have now p3",
    ),
    # Bodies that run
    mutant(
        "at work: a begin is told once",
        "atwork.py",
        ("tell_begun", "if not one.told_begun or asked:", "if True:"),
        by="atwork: a begin is told once",
    ),
    mutant(
        "at work: what waits behind it is for others",
        "atwork.py",
        ("_look_at", "if len(hand.given) > 1:", "if False:"),
        by="atwork: what waits behind a body that takes long is given to another",
    ),
    mutant(
        "at work: who begins nothing loses it",
        "atwork.py",
        ("_look_at", "self.take_back(hand)\n                hand.silent", "hand.silent"),
        by="atwork: a child that begins nothing is given nothing until it says a word",
    ),
    mutant(
        "signal: only to the attempt that runs",
        "atwork.py",
        ("signal", "page.current != one.number or ", ""),
        by=ONLY_THIS,
    ),
    mutant(
        "signal: not to a number that may be another's",
        "atwork.py",
        ("signal", " or hand.line.closed", ""),
        by="atwork: no signal is sent to the number of a child that is gone",
    ),
    mutant(
        "signal: nothing begins before it has come",
        "atwork.py",
        ("signal", "page.halt = one.number", "pass"),
        by=ONLY_THIS,
    ),
    mutant(
        "signal: one that is not sent holds nothing up",
        "atwork.py",
        ("signal", "page.halt = before", "pass"),
        by=ONLY_THIS,
    ),
    mutant(
        "signal: one that is not sent leaves another's halt",
        "atwork.py",
        ("signal", "page.halt = before", "page.halt = 0"),
        by="atwork: a signal that comes late takes back no other p1",
    ),
    mutant(
        "signal: says whom it is meant for",
        "atwork.py",
        ("signal", "page.aim = one.number", "pass"),
        by=ONLY_THIS,
    ),
    mutant(
        "signal: with a process goes what it has started",
        "atwork.py",
        (
            "signal",
            "held.kill_tree(psutil.Process(hand.process.pid))",
            "os.kill(hand.process.pid, number)",
        ),
        by="atwork: with a process goes what it has started p4",
    ),
    mutant(
        "limit by hand: told once",
        "atwork.py",
        ("_mind_limits", "one.warned = True", "pass"),
        by="atwork: a body over its limit is told so once",
    ),
    mutant(
        "limit by hand: fails after its grace",
        "atwork.py",
        (
            "_mind_limits",
            "self.boot.keeper.do(partial(self.boot.lookout.timed_out, *one.key))",
            "pass",
        ),
        by=OVER,
    ),
    mutant(
        "limit by hand: its process ends",
        "atwork.py",
        ("_mind_limits", "if self.signal(hand, one, Signals.SIGTERM):", "if False:"),
        by=OVER,
    ),
    mutant(
        "limit by hand: killed when it does not go",
        "atwork.py",
        ("look", "self._kill(hand)", "pass"),
        by="atwork: who does not go at a word is killed",
    ),
    mutant(
        "cold: gives back",
        "atwork.py",
        (
            "_stop_body",
            "self.boot.keeper.do(partial(losses.give_back_by_key, *one.key))",
            "pass",
        ),
        by=COLD,
    ),
    mutant(
        "cold: the begin is written before",
        "atwork.py",
        ("_stop_body", "self.tell_begun(hand, one)", "pass"),
        by=COLD,
    ),
    mutant(
        "cold: tells each once",
        "atwork.py",
        ("_look_at", "if self.cold and hand.kill_at is None:", "if self.cold:"),
        by="atwork: a cold stop tells each body once",
    ),
    mutant(
        "death by hand: what had begun is lost",
        "atwork.py",
        ("bury", "if one not in unbegun:", "if False:"),
        by="atwork: the task of a child that died is lost and counted p1",
    ),
    mutant(
        "death by hand: what had not begun is not",
        "atwork.py",
        ("bury", "self.deck.put_back(unbegun)", "pass"),
        by="atwork: the task of a child that died is lost and counted p1",
    ),
    mutant(
        "death by hand: it had begun",
        "atwork.py",
        ("__call__", "if not self._begun:", "if False:"),
        by="atwork: the task of a child that died is lost and counted p1",
    ),
    mutant(
        "death by hand: once it is known how it ended",
        "atwork.py",
        ("__call__", "if code is None and time.monotonic() < self._until:", "if False:"),
        by="atwork: a loss is written once it is known how the child ended",
    ),
    mutant(
        "line: who died had not read all",
        "lines.py",
        ("_receive", "except ConnectionResetError:", "except ZeroDivisionError:"),
        by="lines: who died before it had read all is heard to the end too",
    ),
    # What a child begins
    mutant(
        "serve: nothing after the lease",
        "serving.py",
        ("_do", " or not lease.holds()", ""),
        by="serving: nothing begins after the lease p3",
    ),
    mutant(
        "serve: nothing without memory",
        "serving.py",
        ("_do", " or not memory.is_left()", ""),
        by="serving: nothing begins in a process without memory",
    ),
    mutant(
        "child: leaves without memory",
        "prefork.py",
        ("_leave_if_worn", "if not memory.is_left():", "if False:"),
        by="integration/test_nasty_ends.py::"
        "test_a_process_that_has_no_memory_left_begins_no_other_task",
        on=POSTGRESQL,
    ),
    mutant(
        "serve: celery's jobs come first",
        "serving.py",
        ("_do", "self._other_job_waits() or ", ""),
        by="serving: a job of celerys is not kept waiting",
    ),
    mutant(
        "serve: nothing that was taken back",
        "serving.py",
        ("_do", "page.taken_back >= job.number or ", ""),
        by="serving: what was taken back does not begin p3",
    ),
    mutant(
        "serve: says that it begins before it looks",
        "serving.py",
        ("_do", "        page.begin(job.number)\n", ""),
        ("_do", "            self.bodies += 1\n", "            page.begin(job.number)\n"),
        by="serving: who begins says so before it looks whether it may p3",
    ),
    mutant(
        "serve: a halt is waited for",
        "serving.py",
        ("_do", " or not self._may_go_on(job.number)", ""),
        by="serving: nothing begins in a process that may be about to end p1",
    ),
    mutant(
        "serve: its own halt is not",
        "serving.py",
        ("_may_go_on", " and page.halt != number", ""),
        by="serving: a halt for what runs itself is not waited for",
    ),
    mutant(
        "serve: no more than it is to run",
        "serving.py",
        ("serve", "if last is not None and self.bodies >= last:", "if False:"),
        by="serving: no more bodies run than a child is to run",
    ),
    mutant(
        "serve: a claim is asked for twice",
        "serving.py",
        (
            "_claim",
            "return execution.claim(job.task_id, job.attempt, again=True)",
            "return None",
        ),
        by="serving: a claim whose answer was lost is asked for again p1",
    ),
    mutant(
        "serve: an answer whatever happens",
        "serving.py",
        (
            "_claim_and_run",
            "        except Exception:",
            "        except ZeroDivisionError:",
        ),
        by="serving: a claim that cannot be made is answered all the same",
    ),
    mutant(
        "serve: an end waits for the begin",
        "serving.py",
        ("_have_begun", "if page.written == number:", "if True:"),
        by="serving: the end of a body that fails waits for the word that it began",
    ),
    mutant(
        "serve: no end without a begin",
        "serving.py",
        ("_have_begun", "raise OperationalError(", "return print("),
        by="serving: the end of a body whose begin cannot be written is for the main process p1",
    ),
    mutant(
        "serve: nobody wants it",
        "serving.py",
        ("_have_begun", "if page.unwanted == number:", "if False:"),
        ("_have_begun", "> until", "> until - WORD_TAKES"),
        by="serving: the end of a body that nobody wants changes nothing and frees its place "
        "p4 p6",
    ),
    mutant(
        "serve: only a signal that is meant for it",
        "serving.py",
        ("_is_aimed_at", "page.aim == number == page.current", "True"),
        by="serving: a signal for another body harms none p6",
    ),
    mutant(
        "serve: none between two bodies",
        "serving.py",
        ("serve", "            interrupts.expect(_never)", "            pass"),
        ("_run", "interrupts.expect(_never)", "pass"),
        ("_is_aimed_at", " == page.current", ""),
        by="serving: a signal between two bodies is late",
    ),
    mutant(
        "serve: a process that is to end does",
        "serving.py",
        ("_run", "if interrupts.process_must_go():", "if False:"),
        by="serving: a process that was told to end goes after its answer",
    ),
    # What is written for them, many at once
    mutant(
        "ends at once: of what still runs",
        GROUPED,
        ("", "task.status IN (%s, %s)", "task.status IN (%s, %s, 'Canceled')"),
        by="journal: the end of a canceled body frees its place and changes nothing p6",
        on=POSTGRESQL,
    ),
    mutant(
        "ends at once: of this attempt",
        GROUPED,
        ("", " AND ran.a = task.attempt", ""),
        by="journal: an older attempt ends no newer one of the same worker p3",
        on=POSTGRESQL,
    ),
    mutant(
        "ends at once: not of what somebody wants to hear",
        GROUPED,
        ("", " AND NOT task.heard", ""),
        by="journal: a task of which somebody wants to hear ends too",
        on=POSTGRESQL,
    ),
    mutant(
        "ends at once: not before the begin",
        GROUPED,
        ("", "GREATEST(task.queued_at, task.started_at,", "GREATEST(task.queued_at,"),
        by="journal: an end is not before a begin that was written too late",
        on=POSTGRESQL,
    ),
    mutant(
        "ends one by one: not before the begin",
        REPORTED,
        ("_finished", ' if old is Status.QUEUED else "started_at"', ""),
        by="journal: an end is not before a begin that was written too late",
    ),
    mutant(
        "begins and ends: counted back when the connection is there",
        GROUPED,
        (
            "time_to_count_back",
            "    connections[conf.DATABASE].ensure_connection()\n    return time.monotonic()",
            "    return time.monotonic()",
        ),
        by=(
            "journal: a begin is no later for a connection that opens slowly",
            "journal: an end is no later for a connection that opens slowly",
        ),
    ),
    mutant(
        "ends at once: one that is refused stops no other",
        "journal.py",
        (
            "_write",
            "self._singly([*begins, *ended], work)",
            "pass",
        ),
        by="journal: one end that is refused keeps no other from being written",
        on=POSTGRESQL,
    ),
]
