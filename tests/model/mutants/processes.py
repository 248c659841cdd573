"""Guards of what a process has beside its tasks: the bell, the types it remembers, the broker."""

from __future__ import annotations

from tests.model.mutants.making import mutant

FORKED = "bell: a process forked while others ring waits for none of their locks"
ROLLED_BACK = "tasktypes: a change that is rolled back held for its transaction alone"
READ_BEFORE_THE_START = (
    "reconnecting: a pool replaces its children as soon as the consumer starts p1"
)

MUTANTS = [
    mutant(
        "watchers: who wraps the tracer under its name watches",
        "watchers.py",
        ("who_watches", "type(function) is not FunctionType or ", ""),
        by="watchers: a wrapper that takes the name of the tracer is seen",
    ),
    mutant(
        "watchers: events of tasks, with -E, have no groups",
        "watchers.py",
        ("wants_events", "not dispatcher.groups or ", ""),
        by="watchers: events of tasks are wanted with dash e or when asked for",
    ),
    mutant(
        "bell: after the commit",
        "bell.py",
        (
            "request_dispatch",
            "transaction.on_commit(ring, using=conf.DATABASE, robust=True)",
            "ring()",
        ),
        by="enqueueing: a rolled back enqueue leaves nothing p2",
    ),
    mutant(
        "bell: what fails there fails no commit",
        "bell.py",
        ("request_dispatch", ", robust=True", ""),
        by="bell: a bell that fails fails no commit p1",
    ),
    mutant(
        "bell: who asks during a ring has one after it",
        "bell.py",
        (
            "_serve",
            "            self._wanted.clear()\n            try:",
            "            try:",
        ),
        (
            "_serve",
            "self._rings = self._fails = False",
            "self._rings = self._fails = False\n                self._wanted.clear()",
        ),
        by="bell: who asks while a ring is on its way has one after it",
    ),
    mutant(
        "bell: a ring that is on its way may have to be made again",
        "bell.py",
        ("_serve", "            self._rings = True\n", ""),
        by="bell: a process that ends over a ring makes it again",
    ),
    mutant(
        "bell: a thread for each process",
        "bell.py",
        ("", "if self._owner != os.getpid():", "if self._owner is None:"),
        by="bell: a forked process rings with a thread of its own",
    ),
    mutant(
        "bell: one thread for each process",
        "bell.py",
        ("_begin", "if self._owner == os.getpid():", "if False:"),
        by="bell: two who ring first at the same moment begin one thread",
    ),
    mutant(
        "bell: nobody has a thread that could not begin",
        "bell.py",
        (
            "_begin",
            "            try:\n                thread.start()",
            "            self._owner = os.getpid()\n            try:\n                thread.start()",
        ),
        by="bell: a bell whose thread cannot begin fails nobody and begins later",
    ),
    mutant(
        "bell: a thread that cannot begin fails nobody",
        "bell.py",
        ("_begin", "except RuntimeError as error:", "except KeyError as error:"),
        by="bell: a bell whose thread cannot begin fails nobody and begins later",
    ),
    mutant(
        "bell: a forked process has locks of its own",
        "bell.py",
        ("_begin_anew_in_child", "_ringer.begin_anew()", "pass"),
        by=FORKED,
    ),
    mutant(
        "bell: one ring at the end of a process",
        "bell.py",
        ("_begin", "if not self._is_registered:", "if True:"),
        by="bell: a process that rings at its end does so once",
    ),
    mutant(
        "bell: at its end a process rings for who asked",
        "bell.py",
        ("ring_at_exit", " or self._wanted.is_set()", ""),
        by="bell: a process that ends rings for those who asked last",
    ),
    mutant(
        "bell: at its end a process rings only where somebody asked",
        "bell.py",
        ("ring_at_exit", "if asked and ", "if "),
        by="bell: a process that ends rings for those who asked last",
    ),
    mutant(
        "bell: at its end a process asks no Redis that is away",
        "bell.py",
        ("ring_at_exit", "not self._fails and ", ""),
        by="bell: a process ends without asking a redis that is away",
    ),
    mutant(
        "bell: at its end a process rings only for itself",
        "bell.py",
        ("ring_at_exit", " and self._owner == os.getpid()", ""),
        by="bell: a process rings at its end only for itself",
    ),
    mutant(
        "bell: a Redis that is away is asked seldom",
        "bell.py",
        ("_serve", "_BREAK_SECONDS if self._fails else _GAP", "_GAP"),
        by="bell: a process ends without asking a redis that is away",
    ),
    mutant(
        "bell: without a Redis nothing begins",
        "bell.py",
        ("", "if redis_url() is None:", "if False:"),
        by="bell: without a redis nothing rings",
    ),
    mutant(
        "types: what was read before a change is not kept",
        "tasktypes.py",
        ("types", "kept_of is not turn or ", ""),
        by="tasktypes: a change by this process is seen at once",
    ),
    mutant(
        "types: who was reading during a change has read nothing",
        "tasktypes.py",
        ("types", "self._kept = (turn, types", "self._kept = (self._turn, types"),
        by="tasktypes: what was read before a change is not kept after it",
    ),
    mutant(
        "types: read again after some seconds",
        "tasktypes.py",
        ("types", " or time.monotonic() - read_at > CACHE_SECONDS", ""),
        by="tasktypes: a change by another process is seen after some seconds",
    ),
    mutant(
        "types: an uncommitted change is for its transaction alone",
        "tasktypes.py",
        ("", "if using and blocks:", "if False:"),
        by=ROLLED_BACK,
    ),
    mutant(
        "types: a transaction that is over has changed nothing more",
        "tasktypes.py",
        ("known_types", "if blocks[:1] != [_changing.whole]:", "if False:"),
        by="test_tasktypes.py",
    ),
    mutant(
        "types: a savepoint that is over has changed nothing more",
        "tasktypes.py",
        ("known_types", "if blocks[-1] is not _changing.innermost:", "if False:"),
        by=ROLLED_BACK,
    ),
    mutant(
        "types: a transaction that has changed some reads them once",
        "tasktypes.py",
        ("known_types", "if blocks[-1] is not _changing.innermost:", "if True:"),
        by="tasktypes: a transaction that has changed types reads them once",
    ),
    mutant(
        "types: a change is seen by all after its commit",
        "tasktypes.py",
        ("", "transaction.on_commit(_memory.forget, using=using)", "pass"),
        by="tasktypes: a change is seen by all threads after its commit",
    ),
    mutant(
        "broker: a child that dies before the loop is replaced",
        "reconnecting.py",
        ("start", "replace_from_the_start(self.pool)", "pass"),
        by=READ_BEFORE_THE_START,
    ),
    mutant(
        "broker: a child that dies before the loop gives its pipes back",
        "reconnecting.py",
        (
            "replace_from_the_start",
            "processes.on_process_down = lambda _process: None",
            "pass",
        ),
        by="reconnecting: a child that dies before the event loop begins is replaced p1",
    ),
    mutant(
        "broker: a pool that replaces children is left alone",
        "reconnecting.py",
        (
            "replace_from_the_start",
            'if getattr(processes, "on_process_down", pool) is None:',
            "if processes is not None:",
        ),
        by="reconnecting: a pool that replaces its children by itself is left alone",
    ),
    mutant(
        "broker: the loop is a sturdy one",
        "reconnecting.py",
        ("__init__", "self.loop = partial(_sturdy, self.loop)", "pass"),
        by="reconnecting: the consumers own loop is a sturdy one p1",
    ),
    mutant(
        "broker: a spoilt message costs a connection",
        "reconnecting.py",
        ("_sturdy", "except SPOILT as error:", "except ZeroDivisionError as error:"),
        by="reconnecting: a message that cannot be read costs a connection and not the worker p1",
    ),
    mutant(
        "broker: a pool without a child ends the worker",
        "reconnecting.py",
        ("_sturdy", 'if not consumer.pool.info["processes"]:', "if False:"),
        by="reconnecting: a pool that lost a child before it was ready goes on with the others p1",
    ),
    mutant(
        "broker: a lost child does not end the worker",
        "reconnecting.py",
        ("_sturdy", 'if not consumer.pool.info["processes"]:', "if True:"),
        by="reconnecting: a pool that lost a child before it was ready goes on with the others p1",
    ),
    mutant(
        "broker: a message of no task is rejected",
        "reconnecting.py",
        (
            "create_task_handler",
            "except SPOILT as error:",
            "except ZeroDivisionError as error:",
        ),
        by="reconnecting: a message of no known task is rejected and the loop goes on p1",
    ),
    mutant(
        "broker: a connection that cannot be closed ends no worker",
        "reconnecting.py",
        (
            "on_connection_error_after_connected",
            "except Exception as error:",
            "except KeyError as error:",
        ),
        by="reconnecting: a connection that cannot be closed does not end the worker p1",
    ),
    mutant(
        "broker: a lost connection is let go of",
        "reconnecting.py",
        ("on_connection_error_after_connected", "self.connection = None", "pass"),
        by="reconnecting: a connection is let go of whatever celery throws before it does so p1",
    ),
]
