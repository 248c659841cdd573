"""The user as whom database servers run, since they refuse to run as root."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def server_user() -> str:
    """Return ``nobody`` when the tests run as root, else nothing: no change."""
    return "nobody" if os.geteuid() == 0 else ""


def give_to(user: str, directory: Path) -> None:
    """Make ``directory`` the private one of ``user``."""
    directory.chmod(0o700)
    if user:
        entry = pwd.getpwnam(user)
        os.chown(directory, entry.pw_uid, entry.pw_gid)


def reachable_by_others(path: Path) -> bool:
    """Return whether every user may walk to ``path``; a home of mode 700 is in the way."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)
