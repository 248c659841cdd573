"""The pages for users say what is so: options, settings, verbs, moves, sentences, links."""

from __future__ import annotations

import datetime as dt
import inspect
import json
import re
import shutil
import subprocess
import textwrap
from pathlib import Path
from urllib.parse import unquote

import pytest
from django.apps import apps

import taskcontrol
from taskcontrol.conf import Conf, known_settings
from taskcontrol.options import DECLARABLE
from taskcontrol.status import MOVES, Status
from taskcontrol.verbs import all_verbs
from tests import tasks

# Most of it reads files, and one run does for all databases.
pytestmark = pytest.mark.only_on("sqlite")

HOME = Path(__file__).parent.parent
DOCS = HOME / "docs"
#: The pages that a user reads; decisions are for those who change the program.
PAGES = sorted(DOCS.glob("*.md"))
TEXTS = [HOME / "README.md", HOME / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """Return what stands between a heading and the next one of its level."""
    level = heading.partition(" ")[0]
    rest = read(page).partition(f"\n{heading}\n")[2]
    assert rest, f"{page} has no {heading!r}"
    return re.split(rf"^{level} ", rest, flags=re.MULTILINE)[0]


def first_cells(text: str) -> list[str]:
    """Return the names in code style in the first cell of each row."""
    cells = re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def flat(text: str) -> str:
    return " ".join(text.split())


# Completeness


def test_every_option_of_enqueue_has_its_row():
    options = inspect.signature(taskcontrol.enqueue).parameters
    own = section("enqueueing.md", "## Options").partition("\n### ")[0]

    named = {name.strip("*") for name in first_cells(own)}

    assert named == set(options)


def test_every_option_of_a_declaration_has_its_row():
    named = first_cells(section("enqueueing.md", "## Types"))

    assert set(named) == DECLARABLE.keys()


def test_every_setting_has_its_row():
    assert sorted(first_cells(read("settings.md"))) == sorted(known_settings())


@pytest.mark.parametrize("name", sorted(known_settings() - {"SECRET_NAMES"}))
def test_the_default_of_a_setting_is_what_the_page_says(name):
    (row,) = re.findall(rf"^\| `{name}` \| (.+?) \|", read("settings.md"), re.MULTILINE)
    default = getattr(Conf, name)
    number = isinstance(default, int | float) and not isinstance(default, bool)

    assert row == (f"{default:,g}" if number else f"`{_repr(default)}`")


def _repr(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value).replace("'", '"')


def test_the_names_of_secrets_are_those_of_the_setting():
    assert ", ".join(Conf.SECRET_NAMES) in read("settings.md")


@pytest.mark.parametrize("verb", sorted(all_verbs()))
def test_every_verb_is_shown_at_work(verb):
    page = read("commands.md")

    assert f"`{verb}`" in page
    assert re.search(rf"manage\.py (taskcontrol )?{verb}\b", page)


def test_the_index_names_every_page():
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", read("index.md")))

    assert linked == {page.name for page in PAGES} - {"index.md"}


# Moves


def arrows(text: str) -> set[tuple[str, str]]:
    """Return the arrows of the first state diagram, but for its beginning and end."""
    diagram = text.partition("stateDiagram-v2")[2].partition("```")[0]
    return set(re.findall(r"^ +(\w+) --> (\w+)", diagram, re.MULTILINE))


ALL_ARROWS = {(str(old), str(new)) for old, moves in MOVES.items() for new in moves}


@pytest.mark.parametrize(
    "page", [DOCS / "lifecycle.md", HOME / "README.md"], ids=lambda p: p.name
)
def test_the_picture_has_every_arrow_and_no_other(page):
    assert arrows(page.read_text(encoding="utf-8")) == ALL_ARROWS


def test_every_arrow_has_the_sentence_of_the_table_of_moves():
    rows = re.findall(r"^\| (\w+) → (\w+) \| (.+) \|$", read("lifecycle.md"), re.MULTILINE)

    assert {(old, new, why) for old, new, why in rows} == {
        (str(old), str(new), why)
        for old, moves in MOVES.items()
        for new, why in moves.items()
    }


def test_every_status_is_explained():
    told = re.findall(r"^\| \*\*(\w+)\*\* \|", read("lifecycle.md"), re.MULTILINE)

    assert told == Status.values


# Sentences


class Elsewhere:
    """Has a method that is bound to an object."""

    def work(self) -> None:
        """Do nothing."""


async def later() -> None:
    """Do nothing."""


def refusals() -> list[object]:
    def inner() -> None:
        """Do nothing."""

    naive = dt.datetime(2027, 1, 1)  # noqa: DTZ001 - the point
    return [
        pytest.param(lambda: None, {}, id="lambda"),
        pytest.param(inner, {}, id="inner"),
        pytest.param(Elsewhere().work, {}, id="bound"),
        pytest.param("os.system", {}, id="forbidden"),
        pytest.param("tests.test_docs.later", {}, id="async"),
        pytest.param(tasks.nothing, {"queue": "fast"}, id="queue"),
        pytest.param(tasks.nothing, {"timeout": 0}, id="timeout"),
        pytest.param(tasks.nothing, {"priority": 5000}, id="priority"),
        pytest.param(tasks.nothing, {"run_at": naive}, id="naive"),
        pytest.param(tasks.nothing, {"created_by": "bob"}, id="user"),
        pytest.param(tasks.nothing, {"paused": "no"}, id="flag"),
        pytest.param(None, {}, id="nothing"),
        pytest.param(None, {"document_type": "a.B", "document_name": 1}, id="half"),
    ]


@pytest.mark.django_db
@pytest.mark.parametrize(("method", "options"), refusals())
def test_a_refusal_says_what_the_page_says(method, options):
    with pytest.raises((ValueError, PermissionError)) as refused:
        taskcontrol.enqueue(method, **options)

    # What stands before it names the method, which is another on the page.
    said = re.sub(r"^Cannot enqueue .+?: ", "", str(refused.value))
    assert said in read("enqueueing.md")


def test_the_permissions_on_the_page_exist():
    models = apps.get_app_config("taskcontrol").get_models()
    known = {
        codename
        for model in models
        for codename in [
            *(name for name, _ in model._meta.permissions),
            *(
                f"{verb}_{model._meta.model_name}"
                for verb in model._meta.default_permissions
            ),
        ]
    }
    named = first_cells(section("admin.md", "## Who may do what"))

    assert set(named) <= known


# Form


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "production.md"], ids=lambda p: p.name
)
def test_a_page_opens_with_what_the_reader_gets(page):
    title, blank, first, *_ = page.read_text(encoding="utf-8").splitlines()

    assert title.startswith("# ")
    assert not blank
    assert first.startswith("After this page you ")


def blocks() -> list[object]:
    return [
        pytest.param(textwrap.dedent(code), id=f"{page.name}-{number}")
        for page in TEXTS
        for number, code in enumerate(
            re.findall(
                r"^```python\n(.*?)^```",
                page.read_text(encoding="utf-8"),
                re.DOTALL | re.MULTILINE,
            )
        )
    ]


@pytest.mark.parametrize("code", blocks())
def test_python_examples_compile(code):
    compile(code, "<example>", "exec")


def links() -> list[object]:
    return [
        pytest.param(page, target, id=f"{page.name}-{target}")
        for page in TEXTS
        for target in sorted(
            set(re.findall(r"\]\(([^)\s]+)\)", _prose(page.read_text(encoding="utf-8"))))
        )
        if not target.startswith(("http://", "https://", "mailto:"))
    ]


def test_the_tests_that_show_what_is_promised_are_there():
    named = re.findall(r"`(tests/[\w/.]+)`", (DOCS / "guarantees.md").read_text())

    assert len(named) > 10
    assert [one for one in named if not (HOME / one).exists()] == []


def git(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *command], cwd=HOME, capture_output=True, text=True, check=False
    )


def has_its_history() -> bool:
    """Whether this is a clone, and a whole one."""
    if shutil.which("git") is None or not (HOME / ".git").exists():
        return False
    return git("rev-parse", "--is-shallow-repository").stdout.strip() == "false"


def test_the_figures_were_measured_on_commits_of_this_history_or_the_page_says_otherwise():
    if not has_its_history():
        pytest.skip("There is no history here.")
    lines = (DOCS / "guarantees.jsonl").read_text(encoding="utf-8").splitlines()
    named = {json.loads(line)["commit"] for line in lines}
    told = re.search(
        r"The commits (.+?) that `guarantees.jsonl` names are not in this history",
        flat(read("guarantees.md")),
    )

    squashed = set(re.findall(r"`(\w+)`", told[1] if told else ""))

    for commit in sorted(named - squashed):
        found = git("merge-base", "--is-ancestor", commit, "HEAD")
        assert found.returncode == 0, f"{commit} is not in the history of HEAD"


def _prose(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("page", "target"), links())
def test_links_lead_somewhere(page, target):
    path, _, anchor = unquote(target).partition("#")
    file = (page.parent / path).resolve() if path else page

    assert file.exists()
    if anchor:
        assert anchor in anchors(file.read_text(encoding="utf-8"))


def anchors(text: str) -> set[str]:
    """Return what the headings are called in links."""
    headings = re.findall(r"^#+ (.+)$", _prose(text), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in headings
    }
