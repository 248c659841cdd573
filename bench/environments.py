"""An environment for each contender, made when it is first needed, with pinned versions."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.peers import Peer

#: Lines of a failed installation that are shown.
TAIL = 5
VERSIONS = """
import json, sys
from importlib.metadata import version
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""


class NotInstalled(Exception):
    """The environment of a contender cannot be made."""


def default_cache() -> Path:
    """Return where the environments are kept when nobody says."""
    given = os.environ.get("TASKCONTROL_BENCH_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else home / "taskcontrol-bench"


def python_of(peer: Peer, cache: Path) -> Path:
    """Return the Python of a contender, after making its environment where there is none."""
    if not peer.packages:
        return Path(sys.executable)
    home = cache / f"{peer.module}-{_digest(peer)}"
    python, done = home / "bin" / "python", home / "complete"
    if not done.exists():
        shutil.rmtree(home, ignore_errors=True)
        _run(peer, [sys.executable, "-m", "venv", str(home)])
        pip = [str(python), "-m", "pip", "install", "--quiet", "--no-input"]
        _run(peer, [*pip, "--disable-pip-version-check", *peer.packages])
        done.touch()
    return python


def versions(peer: Peer, python: Path, shared: Sequence[str]) -> dict[str, str]:
    """Return the versions that a contender runs with: of its packages, or of the shared ones."""
    names = [name.partition("==")[0].partition("[")[0] for name in peer.packages or shared]
    command = [str(python), "-c", VERSIONS, *names]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def _digest(peer: Peer) -> str:
    """Return what changes with the packages or with this Python."""
    asked = " ".join((sys.version, *peer.packages))
    return hashlib.sha256(asked.encode()).hexdigest()[:12]


def _run(peer: Peer, command: list[str]) -> None:
    done = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-TAIL:])
        raise NotInstalled(
            f"{peer.title} cannot be installed ({', '.join(peer.packages)}):\n{end}\n"
            "Its environment is made once and needs a package index. Without a network "
            "leave it out: --peers none measures plain Celery and taskcontrol alone."
        )
