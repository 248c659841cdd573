"""One parent keeps real processes running and ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from taskcontrol.standalone.interruption import Interruption
from taskcontrol.standalone.supervision import Child, Supervisor
from tests.waiting import eventually

# None of it touches the database of the run, so one run is enough.
pytestmark = pytest.mark.only_on("sqlite")

#: Says that it is there, and waits for a signal.
WAIT = "print('here', flush=True); import signal; signal.pause()"
#: The same, deaf to SIGTERM.
STUBBORN = f"import signal; signal.signal(15, signal.SIG_IGN); {WAIT}"


class Parent:
    """A supervisor with what it said and which processes it reported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.pids: list[int] = []
        self.interruption = Interruption()
        self.supervisor = Supervisor(
            say=self.said.append,
            on_tick=lambda: None,
            on_start=self.pids.extend,
            interruption=self.interruption,
        )

    def start(self, name: str, code: str = WAIT, role: str = "", **options) -> Child:
        log = self.folder / f"{name}.log"
        child = Child(
            role=role or name,
            name=name,
            command=[sys.executable, "-u", "-c", code],
            log=log,
            ready=lambda _pid: "here" in log.read_text(),
            **options,
        )
        self.supervisor.start(child)
        return child

    def wait(self, patience: float = 10) -> None:
        assert self.supervisor.wait_until_ready(patience) == []

    def until(self, condition: Callable[[], bool]) -> None:
        """Let the supervisor work until ``condition`` holds."""

        def tick() -> bool:
            self.supervisor.tick()
            return condition()

        eventually(tick, timeout=15, every=0, why=lambda: "\n".join(self.said))


@pytest.fixture
def parent(tmp_path) -> Iterator[Parent]:
    made = Parent(tmp_path)
    yield made
    made.supervisor.stop()


def on_sigterm(statement: str) -> str:
    """Return code that waits, and at SIGTERM runs ``statement`` and ends."""
    return dedent(
        f"""
        import signal
        def end(*args):
            {statement}
            raise SystemExit
        signal.signal(signal.SIGTERM, end)
        {WAIT}
        """
    )


def pid_of(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


def runs(pid: int) -> bool:
    """Tell whether the process is there and not only waits to be buried."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_child_that_was_killed_is_started_again_and_that_is_said(parent):
    child = parent.start("one")
    parent.wait()
    first = pid_of(child)

    os.kill(first, signal.SIGKILL)
    parent.until(lambda: child.alive and pid_of(child) != first)

    assert len(parent.said) == 1
    assert "one ended by itself (SIGKILL); starting it again in 0.25 s" in parent.said[0]
    assert str(child.log) in parent.said[0]


def test_the_pause_grows_while_a_child_keeps_dying_and_is_bounded(parent, monkeypatch):
    monkeypatch.setattr("taskcontrol.standalone.supervision.LONGEST_PAUSE", 0.6)

    parent.start("one", code="raise SystemExit(3)")
    parent.until(lambda: len(parent.said) == 4)

    pauses = [sentence.split("again in ")[1].split(" s")[0] for sentence in parent.said]
    assert pauses == ["0.25", "0.5", "0.6", "0.6"]
    assert "(exit status 3)" in parent.said[0]


def test_a_child_that_lived_long_starts_again_soon(parent, monkeypatch):
    monkeypatch.setattr("taskcontrol.standalone.supervision.STEADY", 0.0)

    parent.start("one", code="raise SystemExit(3)")
    parent.until(lambda: len(parent.said) == 3)

    assert all("again in 0.25 s" in sentence for sentence in parent.said)


def test_children_end_in_the_reverse_order_of_their_start(parent, tmp_path):
    ended = tmp_path / "ended"
    for name in ("broker", "worker", "web"):
        parent.start(name, code=on_sigterm(f"open({str(ended)!r}, 'a').write('{name} ')"))
    parent.wait()

    parent.supervisor.stop()

    assert ended.read_text().split() == ["web", "worker", "broker"]


def test_children_of_one_role_are_asked_to_end_together(parent):
    for name in ("worker", "worker-long"):
        parent.start(name, code=on_sigterm("import time; time.sleep(1)"), role="worker")
    parent.wait()
    began = time.monotonic()

    parent.supervisor.stop()

    assert 1 <= time.monotonic() - began < 1.9


def test_a_child_that_ignores_the_first_signal_gets_the_next(parent):
    stubborn = parent.start(
        "one", code=STUBBORN, ending=((signal.SIGTERM, 0.2), (signal.SIGQUIT, 30.0))
    )
    parent.wait()

    parent.supervisor.stop()

    assert stubborn.process.returncode == -signal.SIGQUIT
    assert parent.said == ["one is still busy: SIGQUIT"]


def test_what_a_child_started_goes_with_it(parent):
    child = parent.start(
        "one",
        code="import subprocess, sys;"
        f"print(subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]).pid); {WAIT}",
    )
    parent.wait()
    grandchild = int(child.log.read_text().split()[0])

    parent.supervisor.stop()

    eventually(lambda: not runs(grandchild))


def test_a_late_child_is_named(parent):
    late = parent.start("one", code="import signal; signal.pause()")

    assert parent.supervisor.wait_until_ready(0.3) == [late]


@pytest.fixture
def signals():
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_the_first_signal_ends_the_watch_between_two_looks(parent, signals):
    child = parent.start("one")
    parent.wait()
    parent.interruption.listen(signal.SIGUSR1)

    os.kill(os.getpid(), signal.SIGUSR1)
    with pytest.raises(KeyboardInterrupt):
        parent.supervisor.watch()

    assert child.alive


def test_a_second_signal_ends_everything_at_once(parent, signals):
    child = parent.start("one", code=STUBBORN)
    parent.wait()
    parent.interruption.listen(signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    insist = [
        sys.executable,
        "-c",
        f"import os; os.kill({os.getpid()}, {signal.SIGUSR1.value})",
    ]

    with subprocess.Popen(insist):
        parent.supervisor.stop()

    assert child.process.returncode == -signal.SIGKILL
    assert parent.said == ["stopping at once"]


def test_a_signal_that_the_shell_ignores_stays_ignored(parent, signals):
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    parent.interruption.listen(signal.SIGUSR1)

    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets children follow")
def test_nothing_is_left_when_the_parent_is_killed(tmp_path):
    code = dedent(
        f"""
        import sys
        from pathlib import Path
        from tests.test_supervision import Parent, STUBBORN
        import signal
        parent = Parent(Path({str(tmp_path)!r}))
        parent.start("one")
        parent.start("two", code=STUBBORN, orphaned=signal.SIGQUIT)
        parent.wait()
        print(*parent.pids, flush=True)
        parent.supervisor.watch()
        """
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as driver:
        pids = {int(pid) for pid in driver.stdout.readline().split()}
        driver.kill()

    assert len(pids) == 2
    eventually(lambda: not any(map(runs, pids)), timeout=30)
