#!/usr/bin/env python3
"""The commands of this project; ``up``, ``test`` and ``bench`` also make the environment they need.

Everything before Django is the standard library alone, because a fresh clone on a bare
machine has nothing else.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
PYTHON = VENV / "bin" / "python"
SITE = HERE / "requirements.txt"
TESTS = HERE / "tests" / "requirements.txt"
#: What runs with the packages of the tests.
MODULES = {"test": "tests.run", "bench": "bench"}
#: Lines of a failed command that are shown.
TAIL = 30


def main(arguments: list[str]) -> None:
    """Run ``up``, ``test`` and ``bench`` in an environment of their own, all else in Django."""
    if sys.version_info < (3, 11):
        leave(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}.")
    verb = arguments[0] if arguments else ""
    if verb == "up":
        prepare(SITE)
        run_in_venv(str(HERE / "manage.py"), "taskcontrol", *arguments)
    if verb in MODULES:
        prepare(SITE, TESTS)
        os.chdir(HERE)
        run_in_venv("-m", MODULES[verb], *arguments[1:])
    if not can_import("django", "celery"):
        if not PYTHON.exists() or Path(sys.prefix) == VENV:
            leave(
                "Django and Celery are not installed for this Python. "
                "`python3 manage.py up` makes an environment in .venv and starts "
                "everything; or install requirements.txt into your own environment."
            )
        run_in_venv(str(HERE / "manage.py"), *arguments)
    run_django()


def run_django() -> None:
    """Hand the command line to Django."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


def run_in_venv(*arguments: str) -> NoReturn:
    """Become the Python of .venv."""
    sys.stdout.flush()
    os.execv(PYTHON, [str(PYTHON), *arguments])  # noqa: S606 - there is no shell to go through


def prepare(*requirements: Path) -> None:
    """Make .venv and install ``requirements`` unless they are already there as they stand."""
    missing = [file for file in requirements if not installed(file)]
    if missing and not usable():
        make_venv()
        missing = list(requirements)
    for file in missing:
        install(file)


def installed(requirements: Path) -> bool:
    """Tell whether .venv was filled from exactly this file."""
    stamp = stamp_of(requirements)
    return PYTHON.exists() and stamp.exists() and stamp.read_text() == digest(requirements)


def stamp_of(requirements: Path) -> Path:
    """Return the file that remembers what was installed from ``requirements``."""
    return VENV / f"installed-{requirements.relative_to(HERE).as_posix().replace('/', '-')}"


def digest(requirements: Path) -> str:
    """Return what a changed file changes."""
    return hashlib.sha256(requirements.read_bytes()).hexdigest()


def usable() -> bool:
    """Tell whether .venv has a Python that runs and can install."""
    return runs("import pip")


def runs(code: str) -> bool:
    """Tell whether the Python of .venv is there, new enough, and gets through ``code``."""
    if not PYTHON.exists():
        return False
    enough = "import sys; assert sys.version_info >= (3, 11)"
    check = [str(PYTHON), "-c", f"{enough}; {code}"]
    return subprocess.run(check, capture_output=True, check=False).returncode == 0


def make_venv() -> None:
    """Make .venv; a broken one goes, a working one without pip is only completed."""
    if not can_import("venv", "ensurepip"):
        install_venv_module()
    say(f"Making a virtual environment in {VENV} ...")
    clear = [] if runs("pass") else ["--clear"]
    run([sys.executable, "-m", "venv", *clear, str(VENV)], "The environment was not made")


def install_venv_module() -> None:
    """Get what Debian and Ubuntu leave out of Python, where that is possible."""
    package = f"python3.{sys.version_info.minor}-venv"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        leave(
            "This Python cannot make virtual environments: its modules venv or ensurepip "
            f"are missing. On Debian or Ubuntu: sudo apt-get install {package}. "
            "Then give the same command again."
        )
    say(f"Installing {package} with apt-get, which this Python needs ...")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update"], "apt-get found no package lists", **quiet)
    install_command = ["apt-get", "install", "-y", "--no-install-recommends", package]
    run(install_command, f"apt-get did not install {package}", **quiet)


def install(requirements: Path) -> None:
    """Install one file of pinned and hashed packages, and remember that."""
    name = requirements.relative_to(HERE)
    say(f"Installing {name} into .venv, once; this can take a minute ...")
    pip = [str(PYTHON), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    run([*pip, "--require-hashes", "-r", str(requirements)], f"{name} was not installed")
    stamp_of(requirements).write_text(digest(requirements))


def run(command: list[str], complaint: str, **environment: str) -> None:
    """Run ``command`` in silence; show the end of what it said only when it fails."""
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        end = "\n".join(done.stdout.splitlines()[-TAIL:])
        leave(f"{end}\n\n{complaint}; the lines above say why. It was: {' '.join(command)}")


def can_import(*modules: str) -> bool:
    """Tell whether this Python has all of ``modules``."""
    return all(find_spec(module) for module in modules)


def say(sentence: str) -> None:
    """Print at once, also into a pipe."""
    print(sentence, flush=True)


def leave(sentence: str) -> NoReturn:
    """End with a sentence on stderr."""
    sys.exit(sentence)


if __name__ == "__main__":
    main(sys.argv[1:])
