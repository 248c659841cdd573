"""Takes one guard out of a copy of the code at a time, and sees whether a test notices."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import NamedTuple

from tests.servers.postgres import Postgres

ROOT = Path(__file__).resolve().parents[2]
#: What the tests need of the tree.
COPIED = ("taskcontrol", "tests", "project", "manage.py", "pyproject.toml")
#: Seconds after which a mutant hangs: a test has noticed that only where it was meant to.
TIMEOUT = 300
#: The same for the tests of all mutants together, with every guard in its place.
ALL_TAKE = 1800
#: A test that fails by these says something about the mutant and nothing about the guard.
CLUMSY = re.compile(r"\b(NameError|SyntaxError|ImportError): .*")
FAILED = re.compile(r"^(?:FAILED|ERROR) (?:tests/)?(\S+)", re.MULTILINE)


class Edit(NamedTuple):
    """A text that stands once in a function (or once in the file) and what takes its place."""

    function: str
    old: str
    new: str
    #: Below ``taskcontrol/``, if it is not the file of its mutant.
    file: str = ""

    def apply(self, source: str) -> str:
        """Return the source without the guard; raises ValueError when it is not there."""
        start, end = _extent(source, self.function)
        count = source.count(self.old, start, end)
        if count != 1:
            place = self.function or "the file"
            raise ValueError(f"{self.old!r} stands {count} times in {place}, not once")
        part = source[start:end].replace(self.old, self.new)
        return source[:start] + part + source[end:]


def _extent(source: str, function: str) -> tuple[int, int]:
    if not function:
        return 0, len(source)
    begin = re.search(rf"^( *)def {function}\(", source, re.MULTILINE)
    if begin is None:
        raise ValueError(f"there is no function {function}")
    # Until something else begins as far to the left; a bracket only ends the head.
    after = re.compile(rf"^ {{0,{len(begin[1])}}}[^\s)]", re.MULTILINE)
    end = after.search(source, begin.end())
    return begin.start(), end.start() if end else len(source)


@dataclass(frozen=True)
class Mutant:
    """One guard that is left out, and the tests of which one must fail for it."""

    name: str
    file: str
    edits: tuple[Edit, ...]
    #: As pytest takes them, below ``tests/``.
    tests: tuple[str, ...]
    database: str = "sqlite"
    #: Whether the sign that it is missing is that something waits for ever.
    hangs: bool = False

    def sources(self, root: Path = ROOT) -> dict[Path, str]:
        """Return the texts without the guard of each file that has a part of it."""
        texts: dict[Path, str] = {}
        for edit in self.edits:
            path = root / "taskcontrol" / (edit.file or self.file)
            texts[path] = edit.apply(texts.get(path) or path.read_text())
        return texts


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant."""

    mutant: Mutant
    #: The test that noticed it; "" when none did.
    killer: str
    #: Why the run says nothing; "" when it does.
    trouble: str = ""
    #: Whether the tests came to no end.
    hung: bool = False

    @property
    def well(self) -> bool:
        """Whether a test noticed it."""
        return bool(self.killer) and not self.trouble


class Copy:
    """A copy of the tree in which tests run, with or without a guard."""

    def __init__(self, place: Path, database_url: str) -> None:
        self.place, self.database_url = place, database_url
        ignored = shutil.ignore_patterns("__pycache__", "node_modules")
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, place / name, ignore=ignored)
            else:
                shutil.copy2(ROOT / name, place / name)

    def judge(self, mutant: Mutant) -> Verdict:
        """Run the tests of a mutant without its guard."""
        without = mutant.sources(self.place)
        whole = {path: path.read_text() for path in without}
        for path, text in without.items():
            path.write_text(text)
        try:
            status, said = self.run(mutant.tests, mutant.database)
        except subprocess.TimeoutExpired:
            killer = "(it hangs)" if mutant.hangs else ""
            trouble = "" if killer else f"its tests had not ended after {TIMEOUT} s"
            return Verdict(mutant, killer, trouble, hung=True)
        finally:
            for path, text in whole.items():
                path.write_text(text)
        found = FAILED.search(said)
        clumsy = CLUMSY.search(said)
        if status == 1 and found:
            return Verdict(mutant, found[1], clumsy[0] if clumsy else "")
        trouble = "" if status == 0 else f"pytest ended with {status}:\n{said[-2000:]}"
        return Verdict(mutant, "", trouble)

    def run(
        self, tests: tuple[str, ...], database: str, timeout: float = 0
    ) -> tuple[int, str]:
        """Run tests in the copy; return pytest's exit status and what it said.

        Raises TimeoutExpired after so many seconds; 0: as many as a mutant has.
        """
        options = ["-x", "-q", "--tb=short", "-p", "no:randomly", "-p", "no:cacheprovider"]
        names = [f"tests/{name}" for name in tests]
        with subprocess.Popen(
            [sys.executable, "-B", "-m", "pytest", *options, "--hypothesis-seed=0", *names],
            cwd=self.place,
            env=self._environment(database),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,
        ) as pytest:
            try:
                said, _ = pytest.communicate(timeout=timeout or TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(pytest.pid, signal.SIGKILL)  # with the servers that it started
                raise
        return pytest.returncode, said

    def _environment(self, database: str) -> dict[str, str]:
        """Nothing of the run around this one: no directory, no database, no tier."""
        ours = ("TASKCONTROL_", "PYTEST_", "COVERAGE_", "PYTHONPATH", "DATABASE_URL")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        if database == "postgresql":
            return {**kept, "DATABASE_URL": self.database_url}
        return {**kept, "TASKCONTROL_TEST_DATABASE": database}


@contextmanager
def postgres(place: Path) -> Iterator[str]:
    """Start a PostgreSQL for the copies; give the address of a database without its name."""
    server = Postgres(place / "postgres")
    place.chmod(0o711)  # a server that does not run as root must be able to walk through
    server.start()
    try:
        yield f"postgresql://{server.user}@localhost:{server.port}/mutants"
    finally:
        server.stop()


def judge_all(mutants: Sequence[Mutant], *, at_once: int = 2) -> Iterator[Verdict]:
    """Yield what becomes of each mutant; raises RuntimeError if a test fails without one."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-")))
        url = ""
        if any(mutant.database == "postgresql" for mutant in mutants):
            url = stack.enter_context(postgres(place))
        copies: Queue[Copy] = Queue()
        for number in range(at_once):
            copies.put(Copy(place / f"copy{number}", f"{url}{number}"))
        pool = stack.enter_context(ThreadPoolExecutor(at_once))
        _check_whole(mutants, copies)

        def judge(mutant: Mutant) -> Verdict:
            copy = copies.get()
            try:
                return copy.judge(mutant)
            finally:
                copies.put(copy)

        yield from pool.map(judge, mutants)


def _check_whole(mutants: Sequence[Mutant], copies: Queue[Copy]) -> None:
    """A test that fails anyway would kill every mutant."""
    copy = copies.get()
    for database in sorted({mutant.database for mutant in mutants}):
        tests = dict.fromkeys(
            test
            for mutant in mutants
            if mutant.database == database
            for test in mutant.tests
        )
        status, said = copy.run(tuple(tests), database, ALL_TAKE)
        if status:
            raise RuntimeError(f"Tests fail without any mutant:\n{said[-3000:]}")
    copies.put(copy)
