"""``manage.py taskcontrol up``: a whole site under one parent, with real processes."""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.servers.process import Process
from tests.waiting import eventually

# None of it depends on the database of the run, so one run is enough.
pytestmark = pytest.mark.only_on("sqlite")

ROOT = Path(__file__).resolve().parent.parent
#: A process of ``up`` by the words in its command line.
WORDS = {
    "broker": "/broker/broker.sock",
    "worker": "taskcontrol worker",
    "beat": "taskcontrol beat",
    "web": "taskcontrol web",
}
#: The site of the tests must not lend its servers to the site that is started here.
PLAIN = {
    "DJANGO_SETTINGS_MODULE": "project.settings",
    "BROKER_URL": "",
    "DATABASE_URL": "",
    "REDIS_URL": "",
}


class Up(Process):
    """One ``up`` on data of its own."""

    def __init__(self, folder: Path, *options: str, **env: str) -> None:
        self.data = folder / "data"
        super().__init__(
            [sys.executable, str(ROOT / "manage.py"), "taskcontrol", "up", *options],
            log=folder / "up.log",
            env={**PLAIN, "TASKCONTROL_DATA_DIR": str(self.data), **env},
        )

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def url(self) -> str:
        return re.findall(r"page +(http://\S+)", self.said)[-1]

    @property
    def password(self) -> str:
        return re.findall(r"login +admin / (\S+)", self.said)[-1]

    def start(self) -> None:
        before = self.times_up() if self.log.exists() else 0
        super().start()
        self.eventually(lambda: self.times_up() > before, timeout=60)

    def times_up(self) -> int:
        return self.said.count("stop   Ctrl-C")

    def eventually(self, condition: Callable[[], object], timeout: float = 20) -> object:
        return eventually(condition, timeout, every=0.1, why=lambda: self.said)

    def shell(self, code: str) -> str:
        """Run ``code`` in a second terminal."""
        manage = [sys.executable, str(ROOT / "manage.py"), "shell", "-v", "0", "-c", code]
        done = subprocess.run(
            manage, env=self.env, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def task(self, field: str) -> str:
        """Return a column of the only task."""
        with closing(sqlite3.connect(self.data / "db.sqlite3", timeout=20)) as database:
            query = f"SELECT {field} FROM taskcontrol_tasklog"
            [[value]] = database.execute(query).fetchall()
            return str(value)

    def workers(self) -> list[tuple[str, str]]:
        """Return the pool and the queues of each worker that ever was here."""
        with closing(sqlite3.connect(self.data / "db.sqlite3", timeout=20)) as database:
            return database.execute(
                "SELECT pool, queues FROM taskcontrol_worker"
            ).fetchall()

    def child(self, role: str) -> psutil.Process | None:
        """Return the topmost process with this role."""
        for process in psutil.Process(self.pid).children():
            try:
                if WORDS[role] in " ".join(process.cmdline()):
                    return process
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return None


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Up]:
    """A running site, for tests that leave it running."""
    up = Up(tmp_path_factory.mktemp("site"), "--workers", "2")
    try:
        up.start()
        yield up
        up.stop()
    finally:
        up.kill()


@pytest.fixture
def new_site(tmp_path) -> Iterator[Callable[..., Up]]:
    """Make sites of one's own."""
    made: list[Up] = []

    def make(*options: str, **env: str) -> Up:
        made.append(Up(tmp_path, *options, **env))
        return made[-1]

    yield make
    for up in made:
        up.kill()


def run_up(data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "taskcontrol", "up", *options],
        env={**os.environ, **PLAIN, "TASKCONTROL_DATA_DIR": str(data)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def gone(processes: list[psutil.Process]) -> bool:
    return not any(
        process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        for process in processes
    )


def test_the_page_answers_and_the_printed_login_opens_it(site):
    cookies = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(cookies)
    )
    login = browser.open(site.url).geturl()
    token = next(cookie.value for cookie in cookies if cookie.name == "csrftoken")
    form = {"username": "admin", "password": site.password, "csrfmiddlewaretoken": token}

    answer = browser.open(login, urllib.parse.urlencode(form).encode())

    assert answer.status == 200
    assert answer.geturl() == site.url


def test_the_front_page_of_the_site_is_named_too(site):
    front = site.url.removesuffix("admin/")

    assert f"site   {front}\n" in site.said.replace("\r", "")
    with urllib.request.urlopen(front, timeout=20) as page:
        assert b"Log in to index the library" in page.read()


def test_static_files_are_served(site):
    with urllib.request.urlopen(
        urllib.parse.urljoin(site.url, "/static/admin/css/base.css")
    ) as css:
        assert css.status == 200


def test_the_password_is_kept_where_only_its_owner_reads_it(site):
    kept = site.data / "admin-password"

    assert kept.read_text().strip() == site.password
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_the_data_folder_is_hidden_from_git(site):
    assert (site.data / ".gitignore").read_text() == "*\n"


def test_a_second_up_says_where_the_first_one_is(site):
    second = run_up(site.data)

    assert second.returncode == 1
    assert (
        f"already running here (pid {site.pid}, {site.url.removesuffix('/admin/')})"
        in second.stderr
    )


@pytest.mark.parametrize("role", WORDS)
def test_a_child_that_was_killed_comes_back_and_the_site_works_on(site, role):
    first = site.child(role)
    below = first.children(recursive=True)

    first.kill()
    site.eventually(lambda: gone([first, *below]))
    second = site.eventually(lambda: site.child(role))

    assert second.pid != first.pid
    assert f"{role} ended by itself (SIGKILL); starting it again" in site.said
    with urllib.request.urlopen(site.url, timeout=20) as page:
        assert page.status == 200


def test_a_port_that_is_taken_is_named_with_the_option_that_changes_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        refused = run_up(tmp_path / "data", "--port", str(port))

    assert refused.returncode == 1
    assert f"Port {port} of 127.0.0.1 is taken" in refused.stderr
    assert "--port" in refused.stderr


def test_without_a_broker_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("TASKCONTROL_BROKER_BINARY", "/nowhere/server")

    refused = run_up(tmp_path / "data")

    assert refused.returncode == 1
    assert "TASKCONTROL_BROKER_BINARY is '/nowhere/server'" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_unusable_database_is_told_with_the_variable_that_names_it(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(PLAIN, "DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")

    refused = run_up(tmp_path / "data")

    assert refused.returncode == 1
    assert "The database cannot be used" in refused.stderr
    assert "DATABASE_URL" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_ends_in_order_at_each_signal(new_site, signum):
    up = new_site("--without", "worker")
    up.start()
    below = up.descendants()
    assert len(below) == 3

    assert up.stop(signum, timeout=40) == 0, up.said

    assert gone(below)
    assert up.said.endswith("stopped\n")


def test_a_second_up_goes_on_where_the_first_stopped(new_site):
    up = new_site()
    up.start()
    password = up.password
    below = up.descendants()

    assert up.stop(timeout=10) == 0
    assert gone(below)

    up.start()
    assert up.password == password
    assert up.stop() == 0


def test_a_long_task_does_not_hold_up_the_end_and_runs_again_at_the_next_start(
    new_site, tmp_path
):
    (tmp_path / "slow.py").write_text("import time\ndef nap(): time.sleep(600)\n")
    up = new_site(TASKCONTROL_ALLOWED_MODULES="slow", PYTHONPATH=str(tmp_path))
    up.start()
    up.shell("import taskcontrol; taskcontrol.enqueue('slow.nap')")
    up.eventually(lambda: up.task("status") == "Started")

    assert up.stop(timeout=20) == 0
    assert (up.task("status"), up.task("lost_count")) == ("Pending", "0")

    up.start()
    up.eventually(lambda: (up.task("status"), up.task("attempt")) == ("Started", "2"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets children follow")
def test_nothing_is_left_when_it_is_killed_and_the_next_one_starts(new_site):
    up = new_site()
    up.start()
    below = up.descendants()

    up.send(signal.SIGKILL)
    up.wait()
    up.start()

    assert gone(below)
    assert json.loads((up.data / "up.json").read_text())["pid"] == up.pid


def test_a_person_who_runs_the_web_server_starts_the_rest(new_site):
    up = new_site("--without", "web", "--without", "beat")
    up.start()

    assert up.child("web") is None
    assert up.child("beat") is None
    assert "page" not in up.said
    assert up.child("worker") is not None


def test_a_second_worker_is_one_more_command(site):
    options = [
        "--pool",
        "solo",
        "--queue",
        "long",
        "--name",
        "second",
        "--num-workers",
        "1",
    ]
    second = Process(
        [sys.executable, str(ROOT / "manage.py"), "taskcontrol", "worker", *options],
        log=site.data / "second.log",
        env=site.env,
    )

    second.start()
    try:
        eventually(lambda: ("solo", '["long"]') in site.workers(), why=second.tail)
        assert second.stop() == 0, second.tail()
    finally:
        second.kill()


SHAPE = """
from project.settings import *
INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "django_celery_beat"]
del CELERY_BEAT_SCHEDULER
ROOT_URLCONF = "shape_urls"
ASGI_APPLICATION = None
TASKCONTROL = {**TASKCONTROL, "QUEUES": {"reports": {"background_workers": 1}}}
"""


def test_a_site_of_another_shape_is_started_too(new_site, tmp_path, broker_server):
    """No admin, no beat in the database, a broker of its own, a queue with its own worker."""
    (tmp_path / "shape.py").write_text(SHAPE)
    (tmp_path / "shape_urls.py").write_text("urlpatterns = []\n")
    up = new_site(
        PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]),
        DJANGO_SETTINGS_MODULE="shape",
        BROKER_URL=broker_server.broker_url,
    )
    up.command = [sys.executable, "-m", "django", "taskcontrol", "up"]

    up.start()

    assert up.url.endswith("/")
    assert up.child("broker") is None
    assert sorted(queues for _, queues in up.workers()) == [
        '["default", "long", "short"]',
        '["reports"]',
    ]
    up.eventually(lambda: list(up.data.glob("beat-schedule*")))
    assert up.stop() == 0


def test_a_changed_password_is_never_overwritten(new_site):
    up = new_site("--without", "worker", "--without", "beat")
    up.start()
    up.stop()
    up.shell(
        "from django.contrib.auth.models import User; user = User.objects.get();"
        "user.set_password('mine'); user.save()"
    )

    up.start()

    assert "login  as before" in up.said


def test_a_checkout_with_a_very_long_path_has_a_socket(tmp_path):
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        up = Up(folder, "--without", "worker", "--without", "beat", TMPDIR=short)
        try:
            up.start()
            assert list(Path(short).rglob("broker.sock"))
            assert up.stop() == 0
        finally:
            up.kill()
