"""Who is measured: the tables of ``peers.toml``."""

from __future__ import annotations

import tomllib
from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FILE = Path(__file__).with_name("peers.toml")
#: Whom all others are compared with, and whom this is about.
BASE, OURS = "plain", "taskcontrol"


@dataclass(frozen=True)
class Peer:
    """One contender; ``peers.toml`` says what each field means."""

    name: str
    title: str
    worker: tuple[str, ...]
    note: str
    module: str
    packages: tuple[str, ...] = ()
    beat: str = ""
    setup: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    settings: str = ""
    apps: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    share: float = 1.0
    ended: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """The variables that its processes get beside those of the stage."""
        found = {"BENCH_APPS": ",".join(self.apps), **self.env}
        if self.settings:
            found["DJANGO_SETTINGS_MODULE"] = self.settings
        return found


def peers() -> dict[str, Peer]:
    """Return all contenders by name, ours first."""
    tables = tomllib.loads(FILE.read_text())
    return {name: _peer(name, table) for name, table in tables.items()}


def named(text: str) -> list[str]:
    """Return the names of "all", of "none", or of names with commas between."""
    known = peers()
    if text in ("all", "none"):
        return list(known) if text == "all" else []
    names = text.split(",")
    if unknown := [name for name in names if name not in known]:
        raise ArgumentTypeError(
            f"there is no {', '.join(unknown)}; there are: {', '.join(known)}"
        )
    return names


def chosen(names: Iterable[str]) -> list[Peer]:
    """Return these contenders, and always plain Celery and ours."""
    known = peers()
    wanted = {OURS, BASE, *names}
    return [known[name] for name in known if name in wanted]


def _peer(name: str, table: Mapping[str, object]) -> Peer:
    given = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in table.items()
    }
    return Peer(**{"name": name, "module": name, **given})  # type: ignore[arg-type]
