"""Guards of a worker's children: deaths seen by their exit, and lines that keep nobody."""

from __future__ import annotations

from tests.model.mutants.making import mutant

WHOEVER = "childdeaths: a child that has exited is dead whoever holds its line open p1"
ENDED_FIRST = "childdeaths: a body that has closed its line is ended before it is lost p4"
ALL_OF_IT = (
    "childdeaths: a child that does not read keeps nobody waiting and has all of it later"
)
NEXT = "childdeaths: the next child with its number is neither marked nor unmarked for it"
SIGNALED = "childdeaths: no signal is sent to the number of who has exited p6"
COPY = "childdeaths: a copy of a child says and hears nothing and keeps no line open"

MUTANTS = [
    mutant(
        "death: by its exit, whoever holds its line",
        "hands.py",
        ("_bury_the_dead", "(all_of_them and hand.is_dead())", "False"),
        by=WHOEVER,
    ),
    mutant(
        "death: what was said before is heard",
        "hands.py",
        ("_bury_the_dead", "self._hear_all(hand)", "pass"),
        by="childdeaths: what it said before counts p1",
    ),
    mutant(
        "death: the body is gone with the process",
        "hand.py",
        ("body_is_gone", "self.hand.is_dead()", "self.hand.line.closed"),
        by=ENDED_FIRST,
    ),
    mutant(
        "death: no signal to who has exited",
        "atwork.py",
        ("signal", " or hand.is_dead()", ""),
        by=SIGNALED,
    ),
    mutant(
        "death: nobody is killed who has exited",
        "atwork.py",
        ("_kill", "if hand.is_dead():", "if False:"),
        by=SIGNALED,
    ),
    mutant(
        "death: Celery's mark goes before another has its number",
        "prefork.py",
        ("_process_cleanup_queues", "self._busy_workers.discard(worker.inqW_fd)", "pass"),
        by=NEXT,
    ),
    mutant(
        "death: Celery has seen it",
        "prefork.py",
        ("_process_cleanup_queues", "worker.line.child_is_dead = True", "pass"),
        by=NEXT,
    ),
    mutant(
        "death: who is dead is not marked again",
        "hand.py",
        ("mark", "if self.line.child_is_dead:", "if False:"),
        by=NEXT,
    ),
    mutant(
        "death: the next with its number is not unmarked",
        "hand.py",
        ("unmark", "if not self.line.child_is_dead:", "if True:"),
        by=NEXT,
    ),
    mutant(
        "death: who is dead is given nothing",
        "hand.py",
        ("is_free", "line.child_is_dead or ", ""),
        by="childdeaths: who is known to be dead is given nothing",
    ),
    mutant(
        "death: one that somebody else has waited for",
        "hand.py",
        ("is_gone", " or not psutil.pid_exists(self.process.pid)", ""),
        by="childdeaths: a child whose exit somebody else has seen is dead",
    ),
    mutant(
        "closed line: no loss while its process lives",
        "hands.py",
        ("_listen", "hand.is_gone() or not self.running.cut_off(hand)", "True"),
        by=ENDED_FIRST,
    ),
    mutant(
        "closed line: its process is ended with what it started",
        "atwork.py",
        ("_kill", "if hand.line.closed:", "if False:"),
        by=ENDED_FIRST,
    ),
    mutant(
        "closed line: time to exit by itself",
        "atwork.py",
        ("cut_off", "time.monotonic() + LAST_WORDS", "0.0"),
        by="childdeaths: who closes its line is given time to exit by itself",
    ),
    mutant(
        "closed line: who has begun nothing is let alone",
        "atwork.py",
        ("cut_off", " or not hand.given", ""),
        by="childdeaths: who closes its line with nothing begun is let alone",
    ),
    mutant(
        "copy: keeps no line open",
        "lines.py",
        ("part", "        self.child_end.close()\n", ""),
        by=COPY,
    ),
    mutant(
        "copy: says nothing on the page",
        "lines.py",
        ("speak_no_more", "self._own, self._times = view", "_, _ = view"),
        by="childdeaths: what a copy says is on no page and what it is told is read",
    ),
    mutant(
        "copy: begins nothing more",
        "serving.py",
        ("_do", "if self.line.parted:", "if False:"),
        by="childdeaths: a copy that comes back from its body begins nothing more p3",
    ),
    mutant(
        "copy: takes nothing of Celery's",
        "prefork.py",
        ("_wait", "if self._servant.line.parted:", "if False:"),
        by="childdeaths: a copy that comes back from a body of celerys takes no other p3",
    ),
    mutant(
        "copy: is told that the begin is written",
        "journal.py",
        ("_write_begin", "if begun:", "if asked and begun:"),
        by="journal: a begin that nobody asked for is told too",
    ),
    mutant(
        "line: what it does not take in is kept",
        "lines.py",
        (
            "send_on",
            "except BlockingIOError:\n            pass",
            "except BlockingIOError:\n            self.unsent.clear()",
        ),
        by=ALL_OF_IT,
    ),
    mutant(
        "line: the rest goes when there is room",
        "hands.py",
        ("_give", "if hand.line.unsent:", "if False:"),
        by=ALL_OF_IT,
    ),
    mutant(
        "line: nobody looks for room without a rest",
        "hands.py",
        ("_attend", "if not hand.line.unsent:", "if False:"),
        by=ALL_OF_IT,
    ),
    mutant(
        "line: nothing more before the rest",
        "hand.py",
        ("is_free", " or line.unsent", ""),
        by=ALL_OF_IT,
    ),
    mutant(
        "line: no more than it takes in",
        "hand.py",
        ("best", "min(BYTES, hand.line.room)", "BYTES"),
        by="childdeaths: who is given a line full is given no more",
    ),
    mutant(
        "line: room is what the system gives",
        "lines.py",
        (
            "",
            "self.main_end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 4",
            "BUFFER",
        ),
        by="lines: what a line has room for it takes in without a reader",
    ),
    mutant(
        "line: arguments are counted in bytes",
        "deck.py",
        ("size_of", "if given.isascii() else", "if True else"),
        by="deck: arguments are as large as what the line carries",
    ),
]
