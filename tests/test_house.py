"""The laws of the house, read from its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import taskcontrol

PACKAGE = Path(taskcontrol.__file__).parent
ROOMS = {
    str(path.relative_to(PACKAGE)): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
    if "migrations" not in path.parts
}
#: They insert the row, and move it.
MAY_WRITE_STATUS = {"forms.py", *(room for room in ROOMS if room.startswith("lifecycle/"))}
#: Of SQL that a room writes itself, without what stands there in brackets.
SETS_A_STATUS = re.compile(r"\bSET\b((?!\bWHERE\b)[^;])*?\bstatus\"?\s*=", re.IGNORECASE)
WRITES = {"bulk_create", "create", "get_or_create", "update", "update_or_create"}
NOUNS = {"TaskLog"}
#: Django needs it while a model's class is made; a site cannot change it later.
READ_AT_IMPORT = {"AUTH_USER_MODEL"}
#: ``dialect.now(alias)``; Django's Now() is the start of the transaction.
CLOCKS_OF_THE_DATABASE = {"now", "dialect.now"}
#: Where a time of this process, which no SQL sees, is compared with another of its times.
MAY_ASK_PYTHON = {
    "clocks.py": "how far the two clocks are apart",
    "celerytasks.py": "the eta of a Celery retry",
    "doctor/foundations.py": "how far the two clocks are apart",
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)

rooms = pytest.mark.parametrize("room", ROOMS)


def lines(nodes: Iterator[ast.expr | ast.stmt]) -> list[str]:
    return [f"line {node.lineno}: {ast.unparse(node)}" for node in nodes]


@rooms
def test_only_lifecycle_and_forms_write_a_status(room):
    if room in MAY_WRITE_STATUS:
        pytest.skip("it may")

    assert lines(writes_of_status(ROOMS[room])) == []


def writes_of_status(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and writes_rows(node):
            given: set[Any] = {keyword.arg for keyword in node.keywords}
            given |= {
                key.value
                for keyword in node.keywords
                if isinstance(keyword.value, ast.Dict)
                for key in keyword.value.keys
                if isinstance(key, ast.Constant)
            }
            if "status" in given:
                yield node
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            own = isinstance(node.value, ast.Name) and node.value.id == "self"
            if node.attr == "status" and not own:
                yield node
        if isinstance(node, ast.Constant | ast.JoinedStr) and sets_a_status(node):
            yield node


def sets_a_status(node: ast.Constant | ast.JoinedStr) -> bool:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    sql = "?".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
    while sql != (flat := re.sub(r"\([^()]*\)", "", sql)):
        sql = flat
    return bool(SETS_A_STATUS.search(sql))


def writes_rows(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr in WRITES
    return isinstance(call.func, ast.Name) and call.func.id in NOUNS


@pytest.mark.parametrize(
    "code",
    [
        "rows.update(status='Failed')",
        "TaskLog.objects.create(status=x)",
        "TaskLog(method='m', status=x).save()",
        "rows.update(**{'status': x})",
        "task.status = x",
        "a, task.status = x",
        "cursor.execute('UPDATE taskcontrol_tasklog SET status = %s')",
        "SQL = f'update {table} as task\\nset rev = {rev}, status=%s'",
        """SQL = 'UPDATE t SET n = (SELECT 1 WHERE 2), "status" = 3 WHERE id = 4'""",
    ],
)
def test_the_law_of_one_writer_sees_a_second_one(code):
    assert len(lines(writes_of_status(ast.parse(code)))) == 1


def test_the_law_of_one_writer_lets_a_room_read_a_status():
    code = "'WITH a AS (SELECT 1 WHERE status = 1) UPDATE t SET rev = 1 WHERE status = 2'"

    assert lines(writes_of_status(ast.parse(code))) == []


@rooms
def test_what_is_compared_in_sql_comes_from_the_clock_of_the_database(room):
    if room in MAY_ASK_PYTHON:
        pytest.skip(MAY_ASK_PYTHON[room])

    assert lines(python_clocks(ROOMS[room])) == []


def python_clocks(tree: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            clock = called.rpartition(".")[2] in {"Now", "now", "today", "utcnow"}
            if called == "time.time" or (clock and called not in CLOCKS_OF_THE_DATABASE):
                yield node
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (node for name in node.names if name.name in {"Now", "now"})


@pytest.mark.parametrize(
    "code",
    [
        "timezone.now()",
        "datetime.now(UTC)",
        "datetime.datetime.utcnow()",
        "time.time()",
        "from django.utils.timezone import now",
        "from django.db.models.functions import Now",
    ],
)
def test_the_law_of_the_clock_sees_another_clock(code):
    assert len(lines(python_clocks(ast.parse(code)))) == 1


@rooms
def test_no_room_reads_a_setting_while_it_is_imported(room):
    assert lines(read_at_import(ROOMS[room])) == []


def read_at_import(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, FUNCTIONS):
            # The body runs later, defaults and decorators run now.
            now = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            now += getattr(node, "decorator_list", [])
            for part in now:
                yield from reads_of_settings(part)
                yield from read_at_import(part)
            continue
        yield from reads_of_settings(node)
        yield from read_at_import(node)


def reads_of_settings(node: ast.AST) -> Iterator[ast.expr]:
    if (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in {"conf", "settings"}
        and node.attr.isupper()
        and node.attr not in READ_AT_IMPORT
    ):
        yield node


@pytest.mark.parametrize(
    "code",
    [
        "LIMIT = conf.LOST_LIMIT",
        "class A:\n    limit = settings.TASKCONTROL",
        "def f(limit=conf.LOST_LIMIT): ...",
        "if settings.DEBUG: ...",
    ],
)
def test_the_law_of_late_settings_sees_an_early_read(code):
    assert len(lines(read_at_import(ast.parse(code)))) == 1


def test_the_law_of_late_settings_lets_a_function_read():
    assert lines(read_at_import(ast.parse("def f():\n    return conf.LOST_LIMIT"))) == []


def test_the_floor_table_names_every_room_with_its_own_sentence():
    table = (PACKAGE.parent / "ARCHITECTURE.md").read_text()
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE)
        told_by_their_folder = {"verbs", "management", "templatetags", "migrations"}
        if name.name == "__init__.py" or told_by_their_folder & set(name.parts):
            continue
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        sentence = " ".join(docstring.split("\n\n")[0].split())
        assert f"| `{name}` | {sentence} |" in table, f"{name} is missing or says otherwise"
