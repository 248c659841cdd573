"""The Python of scripts: what runs in it, and that nothing leads out of it."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from taskcontrol.contrib.scripts.interpreter import OPERATORS, faults_in, run
from taskcontrol.contrib.scripts.words import OPTIONS, words
from taskcontrol.exceptions import InvalidCall


def do(source, **args):
    """Return what a script returns."""
    return run(source, "one", words(), args)


# What it can do


def test_the_script_of_the_page_runs():
    page = (Path(__file__).parent.parent / "docs" / "scripts.md").read_text("utf-8")
    (source,) = re.findall(
        r"^```text\n(# the script.*?)^```", page, re.DOTALL | re.MULTILINE
    )
    late = {"id": 7, "number": "2026-17", "amount": Decimal(2000), "due": "2026-01-31"}
    done = []
    doubles = {
        "call": lambda name, days: [late],
        "enqueue": lambda name, **given: done.append((name, given)),
        "may": lambda permission: True,
    }

    result = run(source, "count overdue", {**words(), **doubles}, {})

    assert result == {"overdue": 1, "asked by": ""}
    assert done == [("remind", {"invoice": 7, "priority": 5})]


def test_every_word_stands_on_the_page():
    page = (Path(__file__).parent.parent / "docs" / "scripts.md").read_text("utf-8")

    assert all(re.search(rf"`[^`]*\b{word}\b", page) for word in [*words(), *OPTIONS])


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("return sorted({'b': 1, 'a': 2})", ["a", "b"]),
        ("a, (b, c) = 1, (2, 3)\nreturn a + b + c", 6),
        ("return [y for x, y in {'k': 5}.items()]", [5]),
        ("def f(x, *more, **named):\n  return x + len(more)\nreturn f(*[1, 2, 3])", 3),
        ("total = 0\nfor n in range(4):\n  total += n\nreturn total", 6),
        ("x = [1, 2]\nx[0] = 5\ndel x[1]\nreturn x", [5]),
        ("seen = {'a': {'b': 1}}\nseen['a']['b'] += 2\nreturn seen", {"a": {"b": 3}}),
        ("x = [1, 2, 3]\nx[:2] *= 2\nreturn x", [1, 2, 1, 2, 3]),
        ("assert args['n'] == 7, 'no'\nreturn 'yes'", "yes"),
        ("return [x for x in range(9) if x % 2][::-1]", [7, 5, 3, 1]),
        ("x, *y = (1, 2, 3)\nreturn {**{'x': x}, 'y': [*y]}", {"x": 1, "y": [2, 3]}),
        (
            "try:\n  1 / 0\nexcept ZeroDivisionError as e:\n  return str(e)",
            "division by zero",
        ),
        ('return f\'{args["n"]:>3}|{"a".upper()}\'', "  7|A"),
        ("return (date(2026, 1, 31) + timedelta(days=1)).isoformat()", "2026-02-01"),
        ("return str(Decimal('0.1') + Decimal('0.2'))", "0.3"),
        ("return [user, may('tests.view_paper')]", ["", True]),
        ("if (n := args['n']) > 3:\n  return n", 7),
        ("return", None),
    ],
    ids=str,
)
def test_ordinary_python_runs(source, value):
    assert do(source, n=7) == value


@pytest.mark.parametrize("sign", OPERATORS)
def test_every_sign_that_changes_in_place_works(sign):
    assert do(f"x = 6\nx {sign} 2\nreturn x") == eval(f"6 {sign.removesuffix('=')} 2")


# What cannot stand in it


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("return (", "Line 1"),
        ("# nothing", "There is nothing in it"),
        ("x = 1\nimport os", "Line 2: import cannot stand in a script"),
        ("from os import path", "import cannot stand"),
        ("class A: pass", "class cannot stand"),
        ("with args: pass", "with cannot stand"),
        ("global x\nx = 1", "global cannot stand"),
        ("try:\n  x = 1\nexcept:\n  x = 2", "except needs the name of an exception"),
        ("return args.__class__", '"__class__" is an invalid attribute name'),
        ("return ().__class__.__base__.__subclasses__()", "__subclasses__"),
        ("return __builtins__", '"__builtins__" is an invalid variable name'),
        ("return f'{args.__class__}'", "__class__"),
        ("return (lambda: 0).__globals__", "__globals__"),
        ("return (x for x in []).gi_frame", "gi_frame"),
        ("return eval('1')", "Eval calls are not allowed"),
        ("exec('1')", "Exec calls are not allowed"),
        ("def _f(): pass", "_f"),
        ("x = lambda _getattr_: 0", "_getattr_"),
        ("_getattr_ = 1", "_getattr_"),
        ("for _getattr_ in []: pass", "_getattr_"),
        ("try:\n  x = 1\nexcept Exception as _write_:\n  x = 2", "_write_"),
        ("try:\n  x = 1\nexcept* Exception:\n  x = 2", "not allowed"),
        ("async def f(): pass", "not allowed"),
        ("yield 1", "yield cannot stand"),
        ("x = yield from []", "yield cannot stand"),
        ("await args", "await cannot stand"),
        ("return [x async for x in args]", "async cannot stand"),
        ("x = 1\nx @= 2", "@= cannot stand"),
        ("return printed", "printed is a reserved name"),
        ("seen = {}\nseen[str(1)] += 1", "Give a name to what is called"),
        ("match args:\n  case _: pass", "not allowed"),
        ("x: int = 1", "not allowed"),
        ("x = 1\nargs.x += 1", "not allowed"),
        ("args[().__class__] += 1", "__class__"),
        ("args[_getattr_] += 1", "_getattr_"),
        ("return \0", "Line 1: source code"),
        ("return " + "(" * 5000, ""),
        pytest.param("return " + "-" * 100_000 + "1", "It cannot be read", id="deep"),
    ],
    ids=str,
)
def test_a_text_that_cannot_run_says_where_and_why(source, fault):
    assert fault in " ".join(faults_in(source))
    with pytest.raises(InvalidCall, match="The script 'one' cannot run: "):
        do(source)


# No way out


@pytest.mark.parametrize(
    "source",
    [
        "return '{0.__class__}'.format(args)",
        "return '{0.__class__.__base__}'.format_map(args)",
        "return str.format('{0.__class__}', args)",
        "return str.join",
        "return dict.fromkeys",
        "return list(map(str.format, ['{0.__class__}'], [args]))",
        "return getattr(args, '__class__')",
        "return type(args)",
        "return object()",
        "return vars()",
        "return globals()",
        "return locals()",
        "return dir(args)",
        "return open('/etc/passwd').read()",
        "return __import__",
        "return compile('1', '', 'eval')",
        "return super()",
        "return breakpoint()",
        "return input()",
        "return memoryview(b'x').obj",
        "return datetime.now()",
        "return date.today()",
        "return log.x",
        "return call.func_globals",
        "return (lambda: 0).x",
        "return [x for x in [1]].__len__",
        "g = (x for x in [1])\nreturn g.send(None)",
        "try:\n  1 / 0\nexcept ZeroDivisionError as e:\n  return e.args",
        "try:\n  1 / 0\nexcept ZeroDivisionError as e:\n  return e.with_traceback(None)",
        "return Exception('x').args",
        "return Discard.mro()",
        "return list[int]",
        "return enumerate([1])[0]",
        "args.x = 1",
        "log.x = 1",
        "date.today = 1",
        "del log.x",
        "log['x'] = 1",
        "log['x'] += 1",
        "date['x'] += 1",
        "(1, 2)[0] = 3",
        "print('x', file=args)",
        "return print.x",
        "return printed",
        "raise SystemExit",
        "raise KeyboardInterrupt",
        "raise BaseException",
        "return setattr(args, 'x', 1)",
        "return id(args)",
        "return user.format(args)",
    ],
    ids=str,
)
def test_nothing_leads_out_of_a_script(source):
    try:
        result = do(source, x=1)
    except (AttributeError, InvalidCall, NameError, NotImplementedError, TypeError):
        return
    pytest.fail(f"it returned {result!r}")
