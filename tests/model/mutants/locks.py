"""Guards of locks by name, and of blocks that commit only while a task is held."""

from __future__ import annotations

from tests.model.mutants.making import POSTGRESQL, mutant

OVERSLEPT = "locks: who overslept does not release what the successor holds"

MUTANTS = [
    mutant(
        "lock: only a free one is taken",
        "locks.py",
        ("_insert", "rows.filter(free).delete()", "rows.delete()"),
        by="locks: a lock is held in the block and free after it",
    ),
    mutant(
        "lock: of an earlier attempt",
        "locks.py",
        ("_insert", ", attempt__lt=attempt", ""),
        by="locks: the same attempt does not get it twice",
    ),
    mutant(
        "lock: of this task",
        "locks.py",
        ("_insert", "Q(task=task.id, attempt__lt=attempt)", "Q(attempt__lt=attempt)"),
        by="locks: another task takes nothing over",
    ),
    mutant(
        "lock: who comes second is refused",
        "locks.py",
        ("_insert", "except IntegrityError:", "except KeyError:"),
        by="locks: of many who want it at one moment exactly one gets it",
    ),
    mutant(
        "lock: a waiter does not wait for ever",
        "locks.py",
        ("_acquire", "if left <= 0:", "if left <= -5:"),
        by="locks: who waits in vain is told after that time",
    ),
    mutant(
        "lock: only the own row is released",
        "possession.py",
        ("rows", ", token=self.token", ""),
        by=OVERSLEPT,
    ),
    mutant(
        "lock: its end asks whether it was lost",
        "locks.py",
        (
            "__exit__",
            "if not held.release() and error is None:",
            "held.release()\n        if False:",
        ),
        by=OVERSLEPT,
    ),
    mutant(
        "lock: its time is asked",
        "locks.py",
        ("check", ".filter(expires_at__gt=DatabaseNow())", ""),
        by="locks: a lock whose time is over is not held though nobody has taken it",
    ),
    mutant(
        "lock: the fence asks its time",
        "locks.py",
        ("fenced", ".filter(expires_at__gt=DatabaseNow())", ""),
        by="locks: behind the fence nothing begins once the lock is lost",
    ),
    mutant(
        "lock: nobody takes it behind the fence",
        "locks.py",
        ("fenced", "rows = rows.select_for_update()", "pass"),
        by="locks: nobody takes an expired lock before the fenced block has committed",
        on=POSTGRESQL,
    ),
    mutant(
        "lock: kept until the commit",
        "possession.py",
        (
            "end_block",
            "if self._alias != home and _in_real_transaction(home):",
            "if False:",
        ),
        by="locks: in a transaction it is released after the commit",
        on=POSTGRESQL,
    ),
    mutant(
        "lock: a rollback gives it back",
        "possession.py",
        ("__del__", "self.possession.drop(id(self))", "pass"),
        by="locks: a rollback releases it too",
        on=POSTGRESQL,
    ),
    mutant(
        "lock: one block of a transaction at a time",
        "possession.py",
        ("resume", "self.block is not None or ", ""),
        by="locks: its transaction may take it again and again",
        on=POSTGRESQL,
    ),
    mutant(
        "lock: extended while it is held",
        "possession.py",
        ("_extend_until_farewell", "self._extend()", "pass"),
        by="locks: it is extended while it is held however long",
    ),
    mutant(
        "lock: a loss is noticed",
        "possession.py",
        ("_extend", "self._gone = True", "pass"),
        by="locks: a holder whose row is gone knows it long before its time is over",
    ),
    mutant(
        "lock: unsure when the database is away",
        "possession.py",
        ("lost", " or time.monotonic() > self._sure_until", ""),
        by="locks: a holder that cannot reach the database knows that it is unsure",
    ),
    mutant(
        "lock: let go with its body",
        "currenttask.py",
        ("let_go", "possession.end_block()", "pass"),
        by="locks: what a body forgot to release is free after it",
    ),
    mutant(
        "check: of this attempt",
        "currenttask.py",
        ("_mine", ", attempt=self.attempt", ""),
        by="currenttask: an attempt that nobody waits for is told so when it asks p3",
    ),
    mutant(
        "check: while it runs",
        "currenttask.py",
        ("_mine", ", status=Status.STARTED", ""),
        by="currenttask: an attempt that nobody waits for is told so when it asks p3",
    ),
    mutant(
        "held: entered by who holds the task",
        "currenttask.py",
        ("held", "        self.check_canceled()\n", ""),
        by="currenttask: a step is not entered by an attempt that was given up on p3",
    ),
    mutant(
        "held: asks again before the commit",
        "currenttask.py",
        ("held", "if not locked_keys(self._mine(conf.DATABASE)):", "if False:"),
        by="currenttask: a step of an attempt that holds the task no more is rolled back p3",
        on=POSTGRESQL,
    ),
    mutant(
        "held: locked until the commit",
        "currenttask.py",
        (
            "held",
            "locked_keys(self._mine(conf.DATABASE))",
            "self._mine(conf.DATABASE).exists()",
        ),
        by="currenttask: nobody takes the task between the last question and the commit p3",
        on=POSTGRESQL,
    ),
    mutant(
        "held: a transaction of its own",
        "currenttask.py",
        ("held", "if within_another(conf.DATABASE):", "if False:"),
        by="currenttask: inside another transaction it says what to do",
    ),
    mutant(
        "fence: one for each body",
        "fencing.py",
        ("fence", "if outcome.fenced:", "if False:"),
        by="currenttask: a body has one fenced block",
    ),
    mutant(
        "fence: entered by who holds the task",
        "fencing.py",
        ("fence", "task.check_canceled()", "pass"),
        by="currenttask: an attempt that was given up on does not enter p3",
    ),
    mutant(
        "fence: a transaction of its own",
        "fencing.py",
        ("fence", "if within_another(using):", "if False:"),
        by="currenttask: inside another transaction it says what to do",
    ),
    mutant(
        "fence: the place is held behind it",
        "fencing.py",
        ("fence", ", body_gone=False", ""),
        by="currenttask: the place is held until the body behind the block is gone p4",
    ),
    mutant(
        "fence: an error behind it changes nothing",
        "fencing.py",
        ("past_the_fence", "if not outcome.fenced:", "if True:"),
        by="currenttask: an error behind the block changes nothing and is logged",
    ),
    mutant(
        "fence: the place is free behind the body",
        "ends.py",
        ("tell_the_rest", "_persistently(", "(lambda *_: None)("),
        by="currenttask: the place is held until the body behind the block is gone p4",
    ),
    mutant(
        "chunk: committed while the task is held",
        "chunks.py",
        (
            "_transaction",
            "with task.held():",
            "with transaction.atomic(using=conf.DATABASE):",
        ),
        by="chunks: a superseded attempt commits no chunk p3",
    ),
    mutant(
        "chunk: begun while the task is held",
        "chunks.py",
        ("_transaction", "task.check_canceled()", "pass"),
        by="chunks: in a transaction too a canceled task begins no other chunk p6",
    ),
    mutant(
        "chunk: not in a task that commits once",
        "chunks.py",
        ("_check_loop", 'if task.row.options.get("atomic"):', "if False:"),
        by="chunks: a task that commits once is refused",
    ),
    mutant(
        "chunk: each loop its own place",
        "chunks.py",
        ("_check_loop", "if name in task.loops:", "if False:"),
        by="chunks: a second loop without a name is refused",
    ),
    mutant(
        "chunk: what concerns the run is no items failure",
        "chunks.py",
        ("item", "except NOT_THE_ITEMS:", "except KeyError:"),
        by="chunks: what concerns the whole run is no failure of an item",
    ),
]
