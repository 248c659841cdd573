"""Becomes a command that dies with the process that started it, as another user if asked.

Run as a script: ``leash.py PARENT_PID SIGNAL USER COMMAND…`` (USER may be empty). A test run
that is killed cannot clean up, and what it started would run on for ever.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1


def become(user: str) -> None:
    """Give up root for ``user``."""
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def main(parent: str, signal: str, user: str, *command: str) -> None:
    """Replace this process by ``command``, on the leash."""
    if user:
        become(user)
    if sys.platform == "linux":
        # After the change of user, which would clear it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(1)  # it died meanwhile
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
