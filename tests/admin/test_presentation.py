"""How values are drawn: readable, safe to look at, a color for every status."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

import taskcontrol
from taskcontrol.arguments import encode
from taskcontrol.models import TaskLog
from taskcontrol.screens.presentation import (
    MASK,
    ago,
    brief,
    pretty,
    retries,
    status_badge,
    visible,
    without_secrets,
)
from taskcontrol.status import Status
from tests.admin.conftest import list_url, text_of
from tests.factories import seconds_ago

CSS = Path(taskcontrol.__file__).parent / "static/taskcontrol/admin.css"
#: From the documents of the original program.
COLORS = {
    Status.PENDING: "yellow",
    Status.PAUSED: "orange",
    Status.QUEUED: "blue",
    Status.STARTED: "light blue",
    Status.FINISHED: "green",
    Status.FAILED: "red",
    Status.CANCELED: "gray",
}


@pytest.mark.parametrize("status", Status)
def test_every_status_has_its_color_in_light_and_dark(status):
    css = CSS.read_text()
    kind = status.lower()

    assert status in COLORS
    for name in (f"--tc-{kind}", f"--tc-{kind}-bg", f"--tc-{kind}-fg"):
        assert len(re.findall(rf"{name}: #", css)) == 3, name
    for rule in (f".tc-{kind}", f".tc-fill-{kind}", f".tc-edge-{kind}"):
        assert re.search(rf"{re.escape(rule)}\b", css), rule


def luminance(color: str) -> float:
    parts = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("status", Status)
def test_the_word_of_a_status_stands_out_from_its_ground(status):
    css, kind = CSS.read_text(), status.lower()
    grounds = re.findall(rf"--tc-{kind}-bg: (#\w{{6}})", css)
    words = re.findall(rf"--tc-{kind}-fg: (#\w{{6}})", css)

    for ground, word in zip(grounds, words, strict=True):
        dark, light = sorted((luminance(ground), luminance(word)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ground, word)


def test_a_badge_says_its_status_in_words_and_stopping_beside_it():
    assert status_badge("Failed") == '<span class="tc-badge tc-failed">Failed</span>'
    assert "stopping" in status_badge("Failed", occupies=True)
    assert "stopping" in status_badge("Pending", occupies=True)
    for status in ("Queued", "Started"):
        assert "stopping" not in status_badge(status, occupies=True)


@pytest.mark.parametrize(
    "hidden", ["\0", "\x1b", "\x7f", "\u202e", "\u2066", "\u200b", "\ufeff", "\ud800"]
)
def test_what_hides_or_reorders_text_is_written_out(hidden):
    assert visible(f"a{hidden}b") == f"a\\u{ord(hidden):04x}b"


@pytest.mark.parametrize(
    "text", ["a\nb\tc", "Zoë", "日本", "שלום", "👩\u200d💻", "\u0646\u200c\u062e"]
)
def test_ordinary_text_of_every_language_stays(text):
    assert visible(text) == text


def test_times_read_as_how_long_ago_and_say_themselves_in_full():
    now = seconds_ago(0)

    assert ">3 min ago</time>" in ago(now - timedelta(seconds=200), now)
    assert ">in 2 h</time>" in ago(now + timedelta(minutes=130), now)
    assert "UTC" in ago(now, now)
    assert ago(None, now) == "-"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "0.2 s"), (59, "59 s"), (61, "1 min"), (7300, "2 h"), (200_000, "2 d")],
)
def test_how_long_ago_needs_one_unit(seconds, told):
    assert brief(seconds) == told


def test_secrets_are_masked_by_their_name_wherever_they_stand():
    given = {"user": "ann", "Password": "p", "deep": [{"apiKey": 1}, ("x", b"raw")]}

    assert without_secrets(given) == {
        "user": "ann",
        "Password": MASK,
        "deep": [{"apiKey": MASK}, ["x", MASK]],
    }


def test_secrets_inside_texts_are_masked():
    assert "hunter2" not in pretty({"url": "postgres://ann:hunter2@db/x"}, masked=True)
    assert "hunter2" in pretty({"url": "postgres://ann:hunter2@db/x"}, masked=False)


def test_stored_values_come_out_readable():
    shown = pretty(encode({"at": timedelta(hours=1), "key": {1}, "n": 2**70}), masked=False)

    assert '"at": "1:00:00"' in shown
    assert str(2**70) in shown


@pytest.mark.parametrize(
    ("made", "most", "told"),
    [(0, 0, ""), (1, 3, "1 of 3 retries"), (1, 0, "1 retry"), (4, 3, "4 retries")],
)
def test_retries_by_hand_are_not_counted_against_those_of_the_system(made, most, told):
    assert retries(TaskLog(retry_count=made, max_retries=most)) == told


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("tasklog", "Nothing yet."),
        ("taskbatch", "Nothing yet."),
        ("schedule", "No schedule yet. Add one here"),
    ],
)
def test_a_list_without_rows_says_so_and_one_without_matches_leads_back(boss, model, told):
    page = text_of(boss.get(list_url(model)))
    assert told in page

    page = text_of(boss.get(list_url(model), {"q": "nosuch"}))
    assert 'Nothing matches. <a href="?">Show all</a>' in page
