"""What children write is kept in files and shown in whole lines."""

from __future__ import annotations

import io

import pytest
from django.core.management.base import OutputWrapper

from taskcontrol.standalone.childlogs import Screen, fresh_log

pytestmark = pytest.mark.only_on("sqlite")


def make_screen(*, color: bool = False, encoding: str = "utf-8"):
    raw = io.BytesIO()
    out = OutputWrapper(io.TextIOWrapper(raw, encoding=encoding))
    return Screen(out, color=color), lambda: raw.getvalue().decode(encoding)


def test_lines_carry_the_name_of_their_child(tmp_path):
    screen, shown = make_screen()
    logs = {name: fresh_log(tmp_path, name) for name in ("beat", "worker")}
    for name, log in logs.items():
        screen.follow(name, log)
        log.write_text(f"I am {name}\n")

    screen.show()
    screen.say("all is well")

    assert shown() == (
        "beat    | I am beat\nworker  | I am worker\nup      | all is well\n"
    )


def test_a_line_is_shown_when_it_is_whole_and_only_once(tmp_path):
    screen, shown = make_screen()
    log = fresh_log(tmp_path, "web")
    screen.follow("web", log)

    for piece in ("half", " a line\r\nnext", "\n"):
        with log.open("a") as file:
            file.write(piece)
        screen.show()

    assert shown() == "web     | half a line\nweb     | next\n"


def test_names_are_colored_on_a_terminal(tmp_path):
    screen, shown = make_screen(color=True)
    screen.follow("web", fresh_log(tmp_path, "web"))
    (tmp_path / "web.log").write_text("text\n")

    screen.show()

    assert shown() == "\x1b[36mweb     |\x1b[0m text\n"


def test_what_the_terminal_cannot_show_does_not_end_everything(tmp_path):
    screen, shown = make_screen(encoding="ascii")
    log = fresh_log(tmp_path, "web")
    screen.follow("web", log)
    log.write_bytes("grün ".encode() + b"\xff\n")

    screen.show()

    assert shown() == "web     | gr?n ?\n"


def test_the_log_of_the_run_before_is_kept(tmp_path):
    fresh_log(tmp_path / "logs", "web").write_text("before")

    now = fresh_log(tmp_path / "logs", "web")

    assert now.read_text() == ""
    assert (tmp_path / "logs" / "web.log.1").read_text() == "before"
