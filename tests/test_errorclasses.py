"""Exception classes by name: as options take them, and as errors are compared with them."""

from __future__ import annotations

import json
import sys

import pytest

from taskcontrol.errorclasses import find, matches, paths_of


class ApiError(Exception):
    """Something went wrong outside."""


class ApiTimeoutError(ApiError):
    """It took too long."""


HERE = "tests.test_errorclasses"


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (ValueError, ["builtins.ValueError"]),
        ("ValueError", ["builtins.ValueError"]),
        ([ApiError, "builtins.OSError"], ["builtins.OSError", f"{HERE}.ApiError"]),
        ((f"{HERE}.ApiTimeoutError",), [f"{HERE}.ApiTimeoutError"]),
        ("json.JSONDecodeError", ["json.decoder.JSONDecodeError"]),
        (IOError, ["builtins.OSError"]),
        ([], []),
    ],
    ids=str,
)
def test_a_class_is_stored_by_where_it_is_defined(given, stored):
    assert paths_of(given) == stored


@pytest.mark.parametrize(
    "given",
    [5, int, "int", "nowhere.Error", f"{HERE}.Missing", [ValueError, None], {}, ""],
    ids=repr,
)
def test_what_is_no_exception_class_is_refused_by_name(given):
    with pytest.raises(ValueError, match="exception classes or their dotted paths"):
        paths_of(given)


def test_a_module_that_nobody_has_imported_yet_is_imported():
    sys.modules.pop("json.tool", None)
    sys.modules.pop("xmlrpc.client", None)

    with pytest.raises(ValueError, match=r"and 'json\.tool\.Nothing' is none"):
        paths_of("json.tool.Nothing")
    assert paths_of("xmlrpc.client.Fault") == ["xmlrpc.client.Fault"]

    assert "json.tool" in sys.modules


def test_a_module_that_is_not_there_is_named_as_such():
    with pytest.raises(ValueError, match=r"'nowhere\.Error' cannot be imported here"):
        paths_of("nowhere.Error")


def test_a_module_that_cannot_be_imported_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"cannot be imported here \(ModuleNotFoundError"):
        paths_of("tests.no_such_room.Error")


def test_an_error_matches_its_class_and_those_above():
    error = ApiTimeoutError()

    assert matches(error, paths_of(ApiTimeoutError))
    assert matches(error, paths_of([KeyError, ApiError]))
    assert matches(error, paths_of(Exception))
    assert not matches(ApiError(), paths_of(ApiTimeoutError))
    assert not matches(error, [])


def test_an_alias_means_the_same_class():
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("{")

    assert matches(caught.value, paths_of("json.JSONDecodeError"))


def test_a_class_is_found_if_its_module_is_loaded():
    assert find(f"{HERE}.ApiError") is ApiError
    assert find("ValueError") is ValueError
    assert find("builtins.int") is None
    assert find("not.there.Error") is None
