"""The nemesis: breaks what it can reach, one fault after the other, as its dice say."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import psutil
from django.db import connection
from redis import RedisError

from taskcontrol import broker as courier, toggle_dispatcher
from taskcontrol.exceptions import BrokerUnavailable
from taskcontrol.models import TaskLog, TaskType
from tests.faults.proxy import Proxy
from tests.faults.scene import Machine, Scene, patiently
from tests.faults.silences import LEASE, Silence
from tests.lab import LAB

#: Seconds for which a frozen or cut-off worker is silent: long enough to be given up on.
SILENCE = LEASE + 2.0


class NotNow(Exception):
    """A fault has hit nothing, or cannot be made while another one lasts."""


#: Errors of a fault that came to nothing: what it was to hit is away.
MISSED = (
    NotNow,
    psutil.Error,
    ProcessLookupError,
    RedisError,
    BrokerUnavailable,
)
#: Seconds in which a fault on a line must be felt by what passes there, or it was none.
FELT = 5.0
#: Whether a fault was felt, for one that hits only what passes later.
Felt = Callable[[], bool]


class Armed(NamedTuple):
    """A fault that counts as soon as it is felt."""

    name: str
    until: float
    felt: Felt


class Undo(NamedTuple):
    """The end of a fault that lasts."""

    at: float
    call: Callable[[], Any]


#: A fault counts when it returns; one that returns a question, when the answer is yes.
Fault = Callable[["Nemesis"], Felt | None]
FAULTS: dict[str, tuple[int, Fault]] = {}


def fault(weight: int) -> Callable[[Fault], Fault]:
    """Register a fault that is drawn ``weight`` times in a round."""

    def register(function: Fault) -> Fault:
        FAULTS[function.__name__] = (weight, function)
        return function

    return register


class Nemesis:
    """Strikes a scene; undoes in time what lasts, and at the end of its block what is left."""

    def __init__(self, scene: Scene, seed: int, *, without: tuple[str, ...] = ()) -> None:
        self.scene, self.dice = scene, random.Random(seed)
        #: How often each kind took effect, and how often it came to nothing.
        self.did: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        #: What happened, with seconds since the beginning, for the message of a failed test.
        self.story: list[str] = []
        #: Who was kept from giving signs of life, when it is over.
        self.silences: list[Silence] = []
        #: Processes that ended although nobody killed them.
        self.ended_themselves: list[str] = []
        self.last_at = self._began = time.monotonic()
        self._without = without
        self._deck: list[str] = []
        self._undo: list[Undo] = []
        self._armed: list[Armed] = []
        #: Whether a fault that lasts may begin.
        self._is_calm = False

    def __enter__(self) -> Nemesis:
        return self

    def __exit__(self, *error: object) -> None:
        self.look_after()
        for undo in self._undo:
            undo.call()
        self._undo.clear()
        self.scene.put_in_order()
        self.last_at = time.monotonic()
        self.say("all in order")

    @property
    def struck(self) -> int:
        """How many faults there were that took effect."""
        return self.did.total()

    def strike(self) -> bool:
        """Break one thing more; False when nothing that is left takes effect now."""
        self.look_after()
        self._is_calm = not self._undo and self.scene.is_up()
        for _ in range(len(self._deck) or 1):
            name = self._draw()
            try:
                felt = FAULTS[name][1](self)
            except MISSED as error:
                self.missed[name] += 1
                self._deck.insert(0, name)
                if not isinstance(error, NotNow):
                    self.say(f"{name} came to nothing: {error!r}")
            else:
                self._begun(name, felt)
                return True
        if self._is_calm:  # what hits nothing even now would keep all others waiting
            self._deck.clear()
        return False

    def look_after(self) -> None:
        """Count what was felt, undo what has lasted, and start what ended by itself."""
        self._feel()
        for undo in [one for one in self._undo if one.at <= time.monotonic()]:
            self._undo.remove(undo)
            undo.call()
        for name, end in self.scene.revive():
            self.ended_themselves.append(name)
            self.say(f"{name} had ended by itself with {end}")

    def say(self, what: str) -> None:
        """Add to the story, which is also kept beside the logs of the processes."""
        self.story.append(f"{time.monotonic() - self._began:6.2f} {what}")
        with (LAB / "nemesis.log").open("a") as log:
            log.write(f"{self.story[-1]}\n")

    def told(self) -> str:
        """Return the story."""
        return "\n".join(self.story)

    def _draw(self) -> str:
        if not self._deck:
            for name, (weight, _) in sorted(FAULTS.items()):
                self._deck += [name] * (weight if name not in self._without else 0)
            self.dice.shuffle(self._deck)
        return self._deck.pop()

    def _begun(self, name: str, felt: Felt | None) -> None:
        if felt is None:
            self.did[name] += 1
        else:
            self._armed.append(Armed(name, time.monotonic() + FELT, felt))
        self.last_at = time.monotonic()
        self.say(name)

    def _feel(self) -> None:
        for one in list(self._armed):
            felt = one.felt()
            if felt or one.until <= time.monotonic():
                self._armed.remove(one)
                (self.did if felt else self.missed)[one.name] += 1

    # What faults ask for

    def machine(self) -> Machine:
        """Return one of the workers."""
        return self.dice.choice(self.scene.machines)

    def lasts(self, seconds: float, undo: Callable[[], Any]) -> None:
        """Undo it so much later; only one fault lasts at a time, or nothing would move."""
        self._undo.append(Undo(time.monotonic() + seconds, undo))

    def silent_for(self, seconds: float, machine: Machine, undo: Callable[[], Any]) -> None:
        """Undo it so much later; until then this worker can give no sign of life."""
        since = time.monotonic()

        def end() -> None:
            undo()
            self.silenced(machine, since)

        self.lasts(seconds, end)

    def silenced(self, machine: Machine, since: float) -> None:
        """Keep that a worker could give no sign of life from then until now."""
        silence = Silence(machine.worker.hostname, since, time.monotonic())
        self.silences.append(silence)

    def nothing_lasts(self) -> None:
        """Refuse to begin while another fault lasts, or a worker is not back from one."""
        if not self._is_calm:
            raise NotNow

    def hits(self, what: Any) -> None:
        """Refuse to count a fault that has hit nothing."""
        if not what:
            raise NotNow


# Processes


@fault(4)
def kill_a_child(nemesis: Nemesis) -> None:
    """SIGKILL to a process of a pool, as the kernel does when memory is short."""
    children = nemesis.machine().worker.children()
    nemesis.hits(children)
    os.kill(nemesis.dice.choice(children).pid, signal.SIGKILL)


@fault(2)
def kill_a_worker(nemesis: Nemesis) -> None:
    """SIGKILL to a worker and its pool, which a supervisor starts again."""
    nemesis.nothing_lasts()
    worker = nemesis.machine().worker
    worker.process.kill()
    worker.launch()


@fault(2)
def freeze_a_worker(nemesis: Nemesis) -> None:
    """SIGSTOP to a worker and its pool until it is given up on: then it wakes as a zombie."""
    nemesis.nothing_lasts()
    machine = nemesis.machine()
    main = psutil.Process(machine.worker.process.pid)
    frozen = [main, *main.children(recursive=True)]

    def thaw() -> None:
        for one in frozen:
            with suppress(psutil.Error):
                one.resume()

    nemesis.silent_for(SILENCE, machine, thaw)
    for one in frozen:
        with suppress(psutil.NoSuchProcess):
            one.suspend()


@fault(1)
def kill_beat(nemesis: Nemesis) -> None:
    """SIGKILL to beat, which a supervisor starts again."""
    _kill_and_start(nemesis.scene.beat)


@fault(2)
def kill_the_dispatcher(nemesis: Nemesis) -> None:
    """SIGKILL to a process that dispatches, wherever in a pass it is."""
    _kill_and_start(nemesis.scene.dispatcher)


def _kill_and_start(what: Any) -> None:
    if what is None:
        raise NotNow
    what.process.kill()
    what.process.start()


# The broker


@fault(2)
def restart_the_broker(nemesis: Nemesis) -> None:
    """SIGKILL to the broker, which starts again without its messages."""
    nemesis.nothing_lasts()
    nemesis.scene.broker.kill()
    nemesis.scene.broker.start()


@fault(1)
def empty_the_broker(nemesis: Nemesis) -> None:
    """FLUSHALL: every message and every binding is gone."""
    nemesis.scene.broker.flush()


@fault(1)
def freeze_the_broker(nemesis: Nemesis) -> None:
    """The broker takes connections and answers nothing, for a while."""
    nemesis.nothing_lasts()
    nemesis.scene.broker.freeze()
    nemesis.lasts(nemesis.dice.uniform(1, 4), nemesis.scene.broker.thaw)


@fault(3)
def copy_messages(nemesis: Nemesis) -> None:
    """Send again what was sent before: late, twice, and of attempts that are over."""
    sent = TaskLog.objects.filter(attempt__gt=0).order_by("-pk")
    rows = list(patiently(lambda: list(sent.values_list("pk", "attempt")[:200])))
    nemesis.hits(rows)
    _publish(
        [
            (pk, attempt)
            for pk, last in nemesis.dice.sample(rows, min(5, len(rows)))
            for attempt in (last, last - 1, last)
        ]
    )


@fault(1)
def forge_messages(nemesis: Nemesis) -> None:
    """Send messages that nobody wrote: of attempts to come, and of tasks that never were."""
    pks = patiently(lambda: list(TaskLog.objects.order_by("-pk").values_list("pk")[:50]))
    later = [
        (pk, nemesis.dice.randint(2, 9))
        for (pk,) in nemesis.dice.sample(pks, len(pks) // 10)
    ]
    _publish([*later, (10**9 + nemesis.dice.randrange(1000), 1), (0, 0), (-1, 1)])


def _publish(attempts: list[tuple[int, int]]) -> None:
    courier.forget_connections()
    courier.publish(
        [
            courier.Message(pk, attempt, "default", f"forged-{pk}-{attempt}-{number}", 60)
            for number, (pk, attempt) in enumerate(attempts)
        ]
    )


# The database


@fault(2)
def restart_the_database(nemesis: Nemesis) -> None:
    """End every process of the database at once, and start it: it recovers from its log."""
    nemesis.nothing_lasts()
    since = time.monotonic()
    nemesis.scene.database.kill()
    nemesis.scene.database.start()
    for machine in nemesis.scene.machines:
        nemesis.silenced(machine, since)


@fault(3)
def end_a_connection(nemesis: Nemesis) -> None:
    """Let the database end one of its connections, in the middle of what it does."""

    def ask() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND backend_type = 'client backend' ORDER BY pid"
            )
            pids = [pid for (pid,) in cursor.fetchall()]
            nemesis.hits(pids)
            cursor.execute("SELECT pg_terminate_backend(%s)", [nemesis.dice.choice(pids)])
            return bool(cursor.fetchone()[0])

    nemesis.hits(patiently(ask))


# The network


def felt_on(line: Proxy) -> Felt:
    """Return the question whether anything that passed a line was harmed since now."""
    before = line.harmed
    return lambda: line.harmed > before


@fault(2)
def cut_the_database_off(nemesis: Nemesis) -> None:
    """Close all connections of one worker to the database."""
    nemesis.hits(nemesis.machine().to_database.cut())


@fault(3)
def cut_an_answer_of_the_database(nemesis: Nemesis) -> Felt:
    """Close them after some more bytes: in the middle of a question or of an answer."""
    line = nemesis.machine().to_database
    felt = felt_on(line)
    line.cut_after(nemesis.dice.randrange(1, 5000))
    return felt


@fault(1)
def cut_the_broker_off(nemesis: Nemesis) -> None:
    """Close all connections of one worker to the broker."""
    nemesis.hits(nemesis.machine().to_broker.cut())


@fault(2)
def cut_an_answer_of_the_broker(nemesis: Nemesis) -> Felt:
    """Close them after some more bytes: a message may be taken and never arrive."""
    line = nemesis.machine().to_broker
    felt = felt_on(line)
    line.cut_after(nemesis.dice.randrange(1, 3000))
    return felt


@fault(1)
def slow_lines(nemesis: Nemesis) -> Felt:
    """Let everything of one worker take long."""
    nemesis.nothing_lasts()
    machine = nemesis.machine()
    felt = felt_on(machine.to_database)
    machine.to_broker.delay = machine.to_database.delay = nemesis.dice.uniform(0.02, 0.2)
    nemesis.lasts(3, machine.heal)
    return felt


@fault(1)
def black_hole_before_the_database(nemesis: Nemesis) -> Felt:
    """Let one worker write to the database and hear nothing, until it is given up on."""
    nemesis.nothing_lasts()
    machine = nemesis.machine()
    felt = felt_on(machine.to_database)
    machine.to_database.swallow("up", "down")
    nemesis.silent_for(SILENCE, machine, machine.heal)
    return felt


@fault(1)
def black_hole_before_the_broker(nemesis: Nemesis) -> Felt:
    """Let one worker write to the broker and hear nothing."""
    nemesis.nothing_lasts()
    machine = nemesis.machine()
    felt = felt_on(machine.to_broker)
    machine.to_broker.swallow("up", "down")
    nemesis.lasts(3, machine.heal)
    return felt


@fault(2)
def half_open_to_the_database(nemesis: Nemesis) -> Felt:
    """Let the database do what it is told, and its answers be lost: was it committed?"""
    nemesis.nothing_lasts()
    machine = nemesis.machine()
    felt = felt_on(machine.to_database)
    machine.to_database.swallow("down")
    nemesis.silent_for(nemesis.dice.uniform(0.5, 3), machine, machine.heal)
    return felt


@fault(2)
def half_open_to_the_broker(nemesis: Nemesis) -> Felt:
    """Let the broker hand out messages that never arrive."""
    nemesis.nothing_lasts()
    machine = nemesis.machine()
    felt = felt_on(machine.to_broker)
    machine.to_broker.swallow("down")
    nemesis.lasts(nemesis.dice.uniform(0.5, 3), machine.heal)
    return felt


@fault(1)
def refuse_the_database(nemesis: Nemesis) -> Felt:
    """Take no connection of one worker to the database."""
    nemesis.nothing_lasts()
    machine = nemesis.machine()
    felt = felt_on(machine.to_database)
    machine.to_database.refuse()
    nemesis.silent_for(2, machine, machine.heal)
    return felt


@fault(1)
def refuse_the_broker(nemesis: Nemesis) -> Felt:
    """Take no connection of one worker to the broker."""
    nemesis.nothing_lasts()
    machine = nemesis.machine()
    felt = felt_on(machine.to_broker)
    machine.to_broker.refuse()
    nemesis.lasts(2, machine.heal)
    return felt


# People


@fault(2)
def change_a_limit(nemesis: Nemesis) -> None:
    """Lower or raise the limit of a type while its bodies run."""
    kinds = TaskType.objects.filter(method__endswith=".few")
    limit = nemesis.dice.choice((1, 2, 3))
    others = kinds.exclude(concurrency_limit=limit)
    nemesis.hits(patiently(lambda: others.update(concurrency_limit=limit)))


@fault(1)
def suspend_the_dispatcher(nemesis: Nemesis) -> None:
    """Suspend the dispatcher for a moment."""
    nemesis.nothing_lasts()
    patiently(lambda: toggle_dispatcher(False, reason="the nemesis"))
    nemesis.lasts(1, lambda: patiently(lambda: toggle_dispatcher(True)))
