"""Which callables may run, and whether their path leads back to them."""

from __future__ import annotations

import datetime as dt
import functools
import math
import sys
import textwrap

import pytest
from celery import current_app, shared_task
from celery.exceptions import SoftTimeLimitExceeded

from taskcontrol import options, registry
from taskcontrol.exceptions import (
    InvalidCall,
    MethodNotAllowed,
    MethodNotCallable,
    MethodNotFound,
)
from taskcontrol.models import OnLost
from tests import tasks
from tests.models import Counter
from tests.tasks import add, celery_add


class Tool:
    @staticmethod
    def plain(left):
        return left

    @classmethod
    def of_class(cls):
        return cls.__name__

    def bound(self):
        return self

    class Inner:
        @staticmethod
        def deep():
            return "deep"

    def __call__(self):
        return self


class Hammer(Tool):
    pass


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return ("decorated", function(*args, **kwargs))

    return wrapper


@decorated
def wrapped(left):
    return left


async def later():
    return 1


async def stream():
    yield 1


def pieces():
    yield 1


NUMBER = 5


@pytest.fixture(autouse=True)
def declarations(monkeypatch):
    """Give back what a test declares, and let no earlier answer be remembered."""
    monkeypatch.setattr(registry, "declarations", dict(registry.declarations))
    registry._resolve.cache_clear()
    yield registry.declarations
    registry._resolve.cache_clear()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module outside of every app; return how."""
    monkeypatch.syspath_prepend(str(tmp_path))
    written = []

    def write(name, code):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


# From a callable to its path


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (add, "tests.tasks.add"),
        ("  tests.tasks.add ", "tests.tasks.add"),
        (Tool.plain, "tests.test_registry.Tool.plain"),
        (Tool.of_class, "tests.test_registry.Tool.of_class"),
        (Tool.Inner.deep, "tests.test_registry.Tool.Inner.deep"),
        (Tool, "tests.test_registry.Tool"),
        (wrapped, "tests.test_registry.wrapped"),
        (celery_add, "tests.tasks.celery_add"),
    ],
)
def test_the_path_of_a_callable_leads_back_to_it(method, path):
    assert registry.path_of(method) == path
    found = registry.resolve(path)
    if not isinstance(method, str):
        assert found == method


def test_a_class_method_keeps_its_class_when_a_parent_defines_it():
    assert registry.resolve(registry.path_of(Hammer.of_class))() == "Hammer"


def local():
    def inner():
        pass

    return inner


@pytest.mark.parametrize(
    ("method", "why"),
    [
        (lambda: 1, "lambda"),
        (local(), "inside another"),
        (Tool().bound, "bound to an object"),
        (Tool(), "no name"),
        (functools.partial(add, 1), "no name"),
        (5, "neither callable nor a dotted path"),
        (b"tests.tasks.add", "neither callable nor a dotted path"),
        (None, "neither callable nor a dotted path"),
        (Counter(name="a").raise_by, "bound to an object"),
        ([].append, "object"),
    ],
)
def test_what_no_other_process_could_find_is_refused_with_what_to_do(method, why):
    with pytest.raises(MethodNotCallable, match=why):
        registry.path_of(method)


def test_a_function_of_the_script_that_runs_is_refused(monkeypatch):
    monkeypatch.setattr(later, "__module__", "__main__")

    with pytest.raises(MethodNotCallable, match="the script that runs"):
        registry.path_of(later)


# From a path to a callable


@pytest.mark.parametrize(
    "path",
    [
        "",
        "add",
        ".",
        "tests.",
        ".tests",
        "tests..add",
        "tests.tasks.add()",
        "a b.c",
        "tests.1",
    ],
)
def test_a_path_that_is_none_is_not_found(path):
    with pytest.raises(MethodNotFound, match="not a dotted path"):
        registry.resolve(path)


@pytest.mark.parametrize(
    "path", ["tests.nowhere.add", "tests.tasks.nowhere", "tests.tasks.add.nowhere"]
)
def test_a_path_to_nothing_is_not_found(path):
    with pytest.raises(MethodNotFound, match="deploy it"):
        registry.resolve(path)


def test_a_path_to_something_else_is_not_callable():
    with pytest.raises(MethodNotCallable, match="it is a int, not callable"):
        registry.resolve("tests.test_registry.NUMBER")


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "subprocess.run",
        "builtins.eval",
        "json.dumps",
        "celery.current_app",
        # an allowed module that merely imported something
        "tests.tasks.os.system",
        "tests.tasks.sys.exit",
        # through a class or function of it
        "tests.tasks.add.__globals__",
        "tests.test_registry.Tool.__init__.__globals__",
        "tests.test_registry.Tool.__subclasses__",
        "tests.tasks.__builtins__",
        "testsuite.tasks.add",
    ],
)
def test_a_path_that_nothing_allows_may_not_run(path):
    with pytest.raises(MethodNotAllowed, match="may not run"):
        registry.resolve(path)


def test_a_name_that_an_allowed_module_imported_from_elsewhere_may_not_run(module):
    # ``math.sqrt`` says of itself where it comes from.
    module("borrowing", "from math import sqrt\ndef own(): return sqrt(4)")

    with pytest.raises(MethodNotAllowed):
        registry.resolve("borrowing.own")


def test_an_allowed_module_allows_what_lies_in_it_and_below_it(module, conf):
    module("outside", "def job(): return 1\nfrom math import sqrt")

    with pytest.raises(MethodNotAllowed):
        registry.resolve("outside.job")
    conf(ALLOWED_MODULES=["outside"])

    assert registry.resolve("outside.job")() == 1
    with pytest.raises(MethodNotAllowed):
        registry.resolve("outside.sqrt")
    conf(ALLOWED_MODULES=[])
    with pytest.raises(MethodNotAllowed):
        registry.resolve("outside.job")


def test_a_module_that_may_not_run_is_not_even_imported(module):
    module("harmful", "raise SystemExit('imported')")

    with pytest.raises(MethodNotAllowed):
        registry.resolve("harmful.job")
    assert "harmful" not in sys.modules


def test_a_declaration_allows_a_path_outside_of_every_app(module):
    module("elsewhere", "def job(): return 2")

    registry.declare_type("elsewhere.job", timeout=5)

    assert registry.resolve("elsewhere.job")() == 2


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import nothing_of_this_name", "nothing_of_this_name"),
        ("1 / 0", "ZeroDivisionError"),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_module_that_cannot_be_imported_says_why(module, conf, code, why):
    name = module("broken_module", code)
    conf(ALLOWED_MODULES=[name])

    with pytest.raises(MethodNotFound, match=why):
        registry.resolve("broken_module.job")


@pytest.mark.parametrize("method", [later, stream, pieces])
def test_a_function_whose_body_would_never_begin_is_refused(method):
    with pytest.raises(MethodNotCallable, match="only makes"):
        registry.resolve(registry.path_of(method))


# Celery tasks


def test_a_celery_task_is_found_by_its_path_and_by_its_name():
    assert registry.resolve("tests.tasks.celery_add") == current_app.tasks[celery_add.name]


def test_a_celery_task_with_a_name_of_its_own_is_found_by_it():
    @shared_task(name="strange-name")
    def hidden():
        return 1

    path = registry.path_of(hidden)

    assert path == "strange-name"
    assert registry.resolve(path).name == "strange-name"


@current_app.task
def app_task() -> None:
    """Do nothing, as the task of one app."""


def test_the_task_of_an_app_is_found_by_its_path():
    assert registry.path_of(app_task) == f"{__name__}.app_task"
    assert registry.resolve(f"{__name__}.app_task") == app_task


def test_a_celery_task_outside_of_installed_apps_is_found_by_its_name():
    @current_app.task(name="elsewhere.hidden")
    def hidden():
        return 1

    hidden.__class__.__module__ = "elsewhere"

    assert registry.path_of(hidden) == "elsewhere.hidden"
    assert registry.resolve("elsewhere.hidden") == hidden


def test_an_imported_name_leads_to_the_functions_own_path_p4():
    assert registry.own_path("tests.aliasing.nothing") == "tests.tasks.nothing"
    assert registry.own_path("tests.tasks.nothing") == "tests.tasks.nothing"
    assert registry.own_path("tests.aliasing.celery_task_open_to_all") == (
        "tests.tasks.celery_task_open_to_all"
    )


def test_a_path_that_was_declared_is_a_type_of_its_own(declarations):
    registry.declare_type("tests.aliasing.nothing", concurrency_limit=1)

    assert registry.own_path("tests.aliasing.nothing") == "tests.aliasing.nothing"


def test_a_wrapper_that_calls_itself_as_what_it_wraps_keeps_its_path():
    path = "tests.tasks.wrapped_but_not_opened"
    assert registry.own_path(path) == path


@pytest.mark.parametrize(
    "name",
    ["celery.chord", "celery.backend_cleanup", "taskcontrol.run", "taskcontrol.prune"],
)
def test_celerys_own_tasks_and_ours_are_no_methods(name):
    with pytest.raises((MethodNotFound, MethodNotAllowed, MethodNotCallable)):
        registry.resolve(name)


# Signatures


@pytest.mark.parametrize(
    ("target", "given"),
    [
        (add, {}),
        (add, {"left": 1, "up": 2}),
        (add, {1: 2}),
        (add, {1: 2, "left": 3}),
        (math.sqrt, {}),
        (math.sqrt, {"x": 4}),  # takes it by position alone
        (Tool.plain, {}),
        (celery_add, {"left": 1}),
        (tasks.celery_retry, {"self": 1}),
    ],
)
def test_arguments_that_do_not_fit_are_refused(target, given):
    with pytest.raises(InvalidCall, match="cannot be called with the arguments"):
        registry.check_arguments("m", target, given)


@pytest.mark.parametrize(
    ("target", "given"),
    [
        (add, {"left": 1}),
        (celery_add, {"left": 1, "right": 2}),
        (tasks.celery_retry, {"until": 1}),
        (tasks.enqueue_child, {"anything": 1}),
        (dict, {"a": 1}),
        (Tool.of_class, {}),
    ],
)
def test_arguments_that_fit_are_taken(target, given):
    registry.check_arguments("m", target, given)


def test_a_callable_without_a_signature_is_not_compared():
    registry.check_arguments("m", type, {"a": 1})
    assert registry.parameters_of(type) == frozenset()


def test_parameters_are_told_by_name():
    assert registry.parameters_of(add) == {"left", "right"}
    assert registry.parameters_of(tasks.celery_retry) == {"until"}


# Declarations


def test_a_declaration_says_nothing_of_what_is_none(declarations):
    registry.declare_type("a.b", priority=None, timeout=dt.timedelta(minutes=2))

    assert declarations["a.b"].values == {"timeout": 120}


def test_the_ways_to_treat_a_lost_task_are_those_of_the_model():
    assert tuple(OnLost.values) == options.ON_LOST


@pytest.mark.parametrize("name", ["local", "wrapped"])
def test_a_decorated_function_is_declared(declarations, name):
    function = globals()[name]

    assert registry.task(queue="long", max_retries=3)(function) is function

    declared = declarations[f"tests.test_registry.{name}"]
    assert declared.values == {"queue": "long", "max_retries": 3}


def test_an_option_that_no_type_has_is_refused_with_those_there_are():
    with pytest.raises(InvalidCall, match=r"unknown options shade; there are: .*timeout"):
        registry.declare_type("a.b", shade="red")


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": "5"},
        {"timeout": 2**40},
        {"max_retries": -1},
        {"max_retries": 10**6},
        {"max_retries": 1.5},
        {"retry_delay": -1},
        {"retry_delay": float("nan")},
        {"priority": 10**6},
        {"concurrency_limit": -1},
        {"concurrency_limit": 2**40},
        {"rate_limit": "10 per minute"},
        {"rate_limit": 10},
        {"queue": "nowhere"},
        {"on_lost": "explode"},
        {"description": "x" * 301},
        {"atomic": "yes"},
        {"owner_may_cancel": 1},
    ],
)
def test_a_value_that_the_database_would_refuse_is_refused_where_it_is_declared(wrong):
    with pytest.raises(InvalidCall, match=next(iter(wrong))):
        registry.declare_type("a.b", **wrong)


@pytest.mark.parametrize(
    "error", ["celery.exceptions.SoftTimeLimitExceeded", "builtins.MemoryError"]
)
def test_what_ends_the_task_during_an_import_says_nothing_of_the_method(
    module, conf, error
):
    home, _, name = error.rpartition(".")
    module("slow_to_import", f"from {home} import {name}\nraise {name}")
    conf(ALLOWED_MODULES=["slow_to_import"])

    with pytest.raises((SoftTimeLimitExceeded, MemoryError)):
        registry.resolve("slow_to_import.work")
