"""Guards of ends that are written later than their bodies ended, by a worker's main process."""

from __future__ import annotations

from tests.model.mutants.making import POSTGRESQL, mutant

MUTANTS = [
    mutant(
        "unwritten: an end that was not written is not forgotten",
        "serving.py",
        ("_answer_of", "outcome.written or outcome.committed", "True"),
        by="unwritten: an end that the database does not take goes along p1",
    ),
    mutant(
        "unwritten: kept before anything else may fail",
        "execution.py",
        ("run_begun", "        keep(outcome)\n", "        pass\n"),
        by="unwritten: a limit that comes behind a body costs it no end p1",
    ),
    mutant(
        "unwritten: a claimed body's too",
        "serving.py",
        ("_claim_and_run", ", keep=self._keep", ""),
        by="unwritten: an end that the database does not take goes along p1",
    ),
    mutant(
        "unwritten: written once",
        "execution.py",
        ("_write", "outcome.written = True", "pass"),
        by="unwritten: an end that was written is not written again for what fails behind it",
    ),
    mutant(
        "unwritten: a signal behind a body is late",
        "serving.py",
        ("_keep", "interrupts.expect(_never)", "pass"),
        by="unwritten: a limit that comes behind a body costs it no end p1",
    ),
    mutant(
        "unwritten: the line carries it",
        "serving.py",
        ("_end_of", "pickle.dumps(end)", "pass"),
        by="unwritten: an end that no line carries spoils no other answer",
    ),
    mutant(
        "unwritten: with its begin",
        "unwritten.py",
        ("_write", "if not self.one.writes_itself:", "if False:"),
        by="unwritten: with the end of a body its begin is written p1",
    ),
    mutant(
        "unwritten: vouched for until it is written",
        "unwritten.py",
        ("__call__", "if not _may_pass(error):", "if True:"),
        by="unwritten: until the database takes it the worker vouches for it p1",
    ),
    mutant(
        "unwritten: not vouched for when nothing can be said",
        "unwritten.py",
        ("__call__", "self._settle()  # nothing", "pass  # nothing"),
        by="unwritten: of what nothing can be said the worker lets go p1",
    ),
    mutant(
        "unwritten: its own fault is how it ended",
        "unwritten.py",
        ("__call__", "if _may_pass(error):\n                    raise", "raise"),
        by="unwritten: an end that no database takes is how the body failed",
    ),
    mutant(
        "unwritten: a refused end frees the place",
        "unwritten.py",
        ("_write", "if row is None or not ends.write(row, end):", "if not row:"),
        by="unwritten: of a canceled task the place is freed p6",
    ),
    mutant(
        "journal: a held row keeps no other waiting",
        "journal.py",
        (
            "_set_aside",
            "self._hold([one for one in news if one.one.key[0] not in free])",
            "free = keys",
        ),
        by="journal: of many held rows one alone is waited for",
        on=POSTGRESQL,
    ),
    mutant(
        "journal: what is new has its turn",
        "journal.py",
        ("_singly", "while left and waits < MOST_WAITS:", "while left:"),
        by="journal: what is kept by something else than its row has its turns too",
    ),
    mutant(
        "journal: what was set aside is written before it ends",
        "journal.py",
        ("_wait", "if self._over and not self._held:", "if self._over:"),
        by="journal: a journal ends with what was set aside written or out of time",
    ),
    mutant(
        "journal: a begin has the time of its own body",
        "journal.py",
        ("_write_begin", "begin.since", "page.since"),
        by="journal: a begin is that of the body of which it was noted",
    ),
    mutant(
        "journal: no word takes a later one back",
        "journal.py",
        ("_write_begin", "max(page.written, begin.number)", "begin.number"),
        by="journal: a word that comes late takes no later one back",
    ),
    mutant(
        "journal: no begin behind an answer",
        "journal.py",
        ("_write_begin", "if one.answered:", "if False:"),
        by="journal: who has answered waits for no word",
    ),
]
