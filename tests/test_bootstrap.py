"""``manage.py`` before Django is there: it makes and uses an environment of its own."""

from __future__ import annotations

import re
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

# None of it touches the database of the run, so one run is enough.
pytestmark = pytest.mark.only_on("sqlite")

ROOT = Path(__file__).resolve().parent.parent
#: Runs manage.py in a Python that has nothing but the standard library.
BARE = [sys.executable, "-I", "-S"]
WITHOUT_ENSUREPIP = """
import os, runpy, sys
sys.modules["ensurepip"] = None
os.geteuid = lambda: 1000
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Clone:
    """A checkout with a manage.py, and requirements that need no package index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tests").mkdir(parents=True)
        shutil.copy(ROOT / "manage.py", folder)
        (folder / "requirements.txt").write_text("# nothing\n")
        (folder / "tests" / "requirements.txt").write_text("# nothing either\n")
        (folder / "tests" / "run.py").write_text("import sys; print('tests', sys.argv[1:])")
        (folder / "bench").mkdir()
        (folder / "bench" / "__main__.py").write_text(
            "print('bench', __import__('sys').argv[1:])"
        )

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    def manage(self, *arguments: str, python: list[str] = BARE):
        return subprocess.run(
            [*python, str(self.folder / "manage.py"), *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def lend_packages(self) -> None:
        """Let .venv find this project and what is installed for these tests."""
        [packages] = self.venv.glob("lib/python3*/site-packages")
        paths = [str(ROOT), *site.getsitepackages()]
        (packages / "lent.pth").write_text("\n".join(paths))


@pytest.fixture
def clone(tmp_path) -> Clone:
    return Clone(tmp_path / "a clone")


def test_up_and_test_make_the_environment_and_install_each_file_once(clone):
    first = clone.manage("test", "-x", "some")
    second = clone.manage("test")
    bench = clone.manage("bench", "drain")
    up = clone.manage("up")

    assert first.returncode == 0
    assert first.stdout.splitlines() == [
        f"Making a virtual environment in {clone.venv} ...",
        "Installing requirements.txt into .venv, once; this can take a minute ...",
        "Installing tests/requirements.txt into .venv, once; this can take a minute ...",
        "tests ['-x', 'some']",
    ]
    assert second.stdout.splitlines() == ["tests []"]
    assert bench.stdout.splitlines() == ["bench ['drain']"]
    # In .venv it is the ordinary command, and here nothing was to install.
    assert up.stdout == ""
    assert "Django and Celery are not installed" in up.stderr


def test_a_changed_file_is_installed_again(clone):
    clone.manage("test")
    (clone.folder / "requirements.txt").write_text("# still nothing\n")

    again = clone.manage("test")

    assert again.stdout.splitlines() == [
        "Installing requirements.txt into .venv, once; this can take a minute ...",
        "tests []",
    ]


def test_what_pip_says_is_shown_when_it_fails_and_it_is_tried_again(clone):
    (clone.folder / "requirements.txt").write_text("./not-there\n")

    first, second = clone.manage("up"), clone.manage("up")

    for failed in (first, second):
        assert failed.returncode == 1
        assert "not-there" in failed.stderr
        assert (
            "requirements.txt was not installed; the lines above say why" in failed.stderr
        )


def test_a_broken_environment_is_made_anew(clone):
    clone.manage("test")
    (clone.venv / "bin" / "python").unlink()

    again = clone.manage("test")

    assert again.returncode == 0
    assert again.stdout.count("Installing") == 2


def test_another_command_runs_in_the_environment_if_this_python_lacks_django(clone):
    clone.manage("test")
    clone.lend_packages()

    version = clone.manage("version")

    assert version.returncode == 0, version.stderr
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?\n", version.stdout)


def test_another_command_uses_a_python_that_has_django(clone):
    version = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "version"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert re.fullmatch(r"\d+\.\d+(\.\d+)?\n", version.stdout)
    assert not clone.venv.exists()


def test_without_django_and_environment_it_says_what_to_do(clone):
    refused = clone.manage("migrate")

    assert refused.returncode == 1
    assert "Django and Celery are not installed for this Python" in refused.stderr
    assert "python3 manage.py up" in refused.stderr


def test_without_ensurepip_and_root_it_names_the_package(clone):
    refused = clone.manage("up", python=[*BARE, "-c", WITHOUT_ENSUREPIP])

    assert refused.returncode == 1
    assert f"apt-get install python3.{sys.version_info.minor}-venv" in refused.stderr
    assert not clone.venv.exists()


def test_the_requirements_name_no_package_index():
    for file in (ROOT / "requirements.txt", ROOT / "tests" / "requirements.txt"):
        lines = file.read_text().splitlines()
        assert [line for line in lines if "://" in line or line.startswith("-")] == []
