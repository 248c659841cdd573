"""Keeps the processes of ``up`` running under one parent, and ends them in order."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from .interruption import Interruption
from .leash import leash

#: Seconds between two looks at the children.
TICK = 0.1
#: Seconds before a dead child is started again: doubled from the first up to the second.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.25, 30.0
#: A child that lived so many seconds starts with the shortest pause again.
STEADY = 30.0

#: How a child is asked to end: one signal after another, with seconds of patience.
ENDING = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))


@dataclass(kw_only=True)
class Child:
    """A process to keep running: what to start, when it counts as ready, how to end it."""

    role: str
    name: str
    command: Sequence[str]
    log: Path
    ready: Callable[[int], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    inherited: Sequence[int] = ()
    ending: Sequence[tuple[signal.Signals, float]] = ENDING
    #: What the kernel sends it when this parent was killed and cannot.
    orphaned: signal.Signals = signal.SIGTERM

    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause: float = 0.0
    revive_at: float | None = None
    was_ready: bool = False

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process in a session of its own, so that Ctrl-C reaches only the parent."""
        self.revive_at = None
        self.started_at = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(self.inherited),
                start_new_session=True,
                preexec_fn=leash(self.orphaned),  # noqa: PLW1509 - there is one thread here
            )

    def check_ready(self) -> bool:
        """Look whether the running process answers; once it did, it stays ready."""
        if not self.was_ready and self.process is not None and self.alive:
            self.was_ready = self.ready(self.process.pid)
        return self.was_ready

    def signal_group(self, signum: signal.Signals) -> None:
        """Signal what is left of it and of all that it started."""
        if self.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signum)


class Supervisor:
    """Starts children one after another, revives the dead, and ends all in reverse order."""

    def __init__(
        self,
        say: Callable[[str], None],
        on_tick: Callable[[], None],
        on_start: Callable[[list[int]], None],
        interruption: Interruption,
    ) -> None:
        self.children: list[Child] = []
        self._say = say
        self._on_tick = on_tick
        self._on_start = on_start
        self._interruption = interruption

    def start(self, child: Child) -> None:
        """Start ``child`` and take charge of it."""
        self.children.append(child)
        self._launch(child)

    def wait_until_ready(self, patience: float) -> list[Child]:
        """Wait for all children; return those that are not ready within ``patience`` seconds."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            late = [child for child in self.children if not child.check_ready()]
            if not late:
                return []
            self.tick()
        return late

    def watch(self) -> None:
        """Keep the children running until a signal ends this with KeyboardInterrupt."""
        while True:
            self.tick()

    def tick(self) -> None:
        """Show what was written, revive who is due, rest for a moment."""
        self._interruption.check()
        self._on_tick()
        for child in self.children:
            self._look_after(child)
        time.sleep(TICK)

    def stop(self) -> None:
        """End all children, the last role first; a second Ctrl-C kills what is left."""
        try:
            for _, group in groupby(reversed(self.children), key=lambda child: child.role):
                self._end(list(group))
        except KeyboardInterrupt:
            self._say("stopping at once")
        finally:
            for child in self.children:
                child.signal_group(signal.SIGKILL)
                if child.process is not None:
                    child.process.wait()
            self._on_tick()

    def _launch(self, child: Child) -> None:
        child.start()
        pids = [child.process.pid for child in self.children if child.process]
        self._on_start(pids)

    def _look_after(self, child: Child) -> None:
        if child.alive:
            return
        if child.revive_at is None:
            self._mourn(child)
        elif time.monotonic() >= child.revive_at:
            self._launch(child)

    def _mourn(self, child: Child) -> None:
        """Clear away what a dead child left, and decide when it starts again."""
        child.signal_group(signal.SIGKILL)
        now = time.monotonic()
        steady = now - child.started_at >= STEADY
        child.pause = SHORTEST_PAUSE if steady else min(child.pause * 2, LONGEST_PAUSE)
        child.pause = max(child.pause, SHORTEST_PAUSE)
        child.revive_at = now + child.pause
        self._say(
            f"{child.name} ended by itself ({_how(child)}); starting it again in "
            f"{child.pause:g} s. Its last words are in {child.log}"
        )

    def _end(self, children: list[Child]) -> None:
        for signum, patience in children[0].ending:
            alive = [child for child in children if child.alive]
            for child in alive:
                self._ask_to_end(child, signum)
            self._wait_for_end(alive, patience)

    def _ask_to_end(self, child: Child, signum: signal.Signals) -> None:
        if signum != signal.SIGTERM:
            self._say(f"{child.name} is still busy: {signum.name}")
        if child.process is not None:
            child.process.send_signal(signum)

    def _wait_for_end(self, children: list[Child], patience: float) -> None:
        until = time.monotonic() + patience
        while any(child.alive for child in children) and time.monotonic() < until:
            self._interruption.check(2)
            self._on_tick()
            time.sleep(TICK / 4)


def _how(child: Child) -> str:
    code = child.process.returncode if child.process else None
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit status {code}"
