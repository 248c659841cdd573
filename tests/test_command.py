"""The front of the verbs: it finds them, teaches them, and turns errors into sentences."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from celery import Celery
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command

from taskcontrol import celeryapp, verbs
from taskcontrol.exceptions import TaskControlError
from taskcontrol.verbs import all_verbs, web

# None of it touches the database of the run, so one run is enough.
pytestmark = pytest.mark.only_on("sqlite")

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "taskcontrol", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_verbs_are_the_files_of_the_package():
    files = {path.stem for path in Path(verbs.__file__).parent.glob("[!_]*.py")}

    assert set(all_verbs()) == {stem.replace("_", "-") for stem in files}
    assert {"up", "worker", "beat", "web"} <= set(all_verbs())


@pytest.mark.parametrize("name", all_verbs())
def test_every_verb_teaches(name):
    first, _, rest = (all_verbs()[name].__doc__ or "").partition("\n")

    assert first.endswith(".")
    assert len(rest.split()) >= 10


def test_without_a_verb_all_are_listed_each_with_its_sentence():
    told = run()

    assert told.returncode == 0
    for name in all_verbs():
        assert f"    {name} " in told.stdout
    assert "Start a Celery worker in this process." in told.stdout


def test_the_help_of_a_verb_is_its_docstring_and_its_options():
    told = run("up", "--help").stdout

    assert "restarts what dies, and ends all of it on Ctrl-C" in told
    assert "--port" in told
    assert "--pythonpath" not in told


def test_django_options_may_stand_behind_a_verb():
    refused = run("worker", "--queue", "nonsense", "--settings", "project.settings")

    assert refused.returncode == 1
    assert "Unknown queue: nonsense. Known are short, default, long" in refused.stderr


def test_an_unknown_verb_is_refused():
    with pytest.raises(CommandError, match="invalid choice: 'dance'"):
        call_command("taskcontrol", "dance")


@pytest.mark.parametrize(
    "error", [TaskControlError("a sentence"), ImproperlyConfigured("so")]
)
def test_errors_of_the_project_end_a_verb_with_their_sentence(monkeypatch, error):
    def fail(*args):
        raise error

    monkeypatch.setattr(web, "handle", fail)

    with pytest.raises(CommandError, match=str(error)):
        call_command("taskcontrol", "web", stdout=io.StringIO())


def test_up_on_windows_says_where_it_works(monkeypatch):
    monkeypatch.setattr(
        "taskcontrol.verbs.up.os", SimpleNamespace(name="nt", cpu_count=lambda: 1)
    )

    with pytest.raises(CommandError, match="inside WSL"):
        call_command("taskcontrol", "up")


def test_up_that_is_ended_before_it_began_ends_as_shells_expect(monkeypatch):
    def run(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("taskcontrol.standalone.household.Household.run", run)

    with pytest.raises(CommandError) as ended:
        call_command("taskcontrol", "up")

    assert ended.value.returncode == 130


def test_without_uvicorn_web_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)

    with pytest.raises(CommandError, match=r"taskcontrol\[embedded\]"):
        call_command("taskcontrol", "web")


def test_the_pages_are_those_of_the_projects_asgi_application(settings):
    from project.asgi import application

    settings.DEBUG = False

    assert web.application() is application


def test_a_project_without_asgi_application_is_served_with_its_static_files(settings):
    settings.ASGI_APPLICATION = None
    settings.DEBUG = True

    assert type(web.application()).__name__ == "ASGIStaticFilesHandler"


def test_the_celery_app_is_the_one_that_the_project_loaded():
    assert celeryapp.project_app().main == "project"


def test_a_project_that_did_not_load_its_celery_app_has_it_found(monkeypatch):
    monkeypatch.setattr(celeryapp, "current_app", Celery("default", set_as_current=False))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "project.settings")

    assert celeryapp.project_app().main == "project"


def test_a_project_without_celery_app_is_told_to_make_one(monkeypatch):
    monkeypatch.setattr(celeryapp, "current_app", Celery("default", set_as_current=False))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "nowhere.settings")

    with pytest.raises(ImproperlyConfigured, match=r"Make one in nowhere/celery\.py"):
        celeryapp.project_app()
