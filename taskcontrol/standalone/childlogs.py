"""Shows on the screen what the children write into their log files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from django.core.management.base import OutputWrapper

#: One after another for the children, in ANSI.
COLORS = (36, 33, 35, 32, 34, 31)
#: Bytes read at once, so that a child that floods its log does not stop the others.
PIECE = 64 * 1024


def fresh_log(folder: Path, name: str) -> Path:
    """Return the empty log file of a child; the one of the run before is kept beside it."""
    folder.mkdir(exist_ok=True)
    log = folder / f"{name}.log"
    if log.exists():
        log.replace(folder / f"{name}.log.1")
    log.touch()
    return log


class Screen:
    """Prints whole lines with the name of the child that wrote them."""

    def __init__(self, out: OutputWrapper, *, color: bool) -> None:
        self._out = out
        self._color = color
        self._followed: dict[str, _Follower] = {}

    def follow(self, name: str, log: Path) -> None:
        """Show from now on what is added to ``log``."""
        self._followed[name] = _Follower(log)

    def say(self, sentence: str) -> None:
        """Show a sentence of the parent itself."""
        self._write("up", sentence, color=1)

    def show(self) -> None:
        """Show what was added since the last call."""
        for place, (name, follower) in enumerate(self._followed.items()):
            for line in follower.lines():
                self._write(name, line, color=COLORS[place % len(COLORS)])

    def _write(self, name: str, line: str, color: int) -> None:
        prefix = f"{name:<8}|"
        if self._color:
            prefix = f"\x1b[{color}m{prefix}\x1b[0m"
        self._out.write(self._printable(f"{prefix} {line}"))
        self._out.flush()

    def _printable(self, text: str) -> str:
        """Replace what the terminal's encoding lacks, which would end everything."""
        encoding = getattr(self._out, "encoding", None) or "utf-8"
        return text.encode(encoding, errors="replace").decode(encoding)


class _Follower:
    """The place up to which one file was shown."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0
        self._rest = b""

    def lines(self) -> Iterator[str]:
        """Return the lines that became whole since the last call."""
        with self._path.open("rb") as file:
            file.seek(self._place)
            piece = file.read(PIECE)
        self._place += len(piece)
        *whole, self._rest = (self._rest + piece).split(b"\n")
        return (line.decode(errors="replace").rstrip("\r") for line in whole)
