"""The library: the small real job of the site, from its parts to its screens."""

from __future__ import annotations

import pytest

from project.library.indexing import (
    ROOTS,
    BrokenSource,
    OutsideLibrary,
    find_sources,
    locate,
    measure,
)

BROKEN_SAMPLES = {
    "broken_encoding.py": "samples/broken_encoding.py, line 1: unknown encoding: utf-nine",
    "broken_escape.py": "samples/broken_escape.py, line 3: (unicode error)",
    "broken_indentation.py": "samples/broken_indentation.py, line 6: unexpected indent",
    "broken_nul_byte.py": "samples/broken_nul_byte.py, line 3: the file holds a NUL byte",
    "broken_python2_print.py": "samples/broken_python2_print.py, line 4: Missing paren",
    "broken_syntax.py": "samples/broken_syntax.py, line 4: '(' was never closed",
}


def measure_file(root, path):
    return measure(locate(root, path).read_bytes(), f"{root}/{path}")


# ---- measuring one file


def test_lines_functions_classes_and_imports_are_counted():
    counts = measure_file("samples", "good_shapes.py")

    assert (counts.lines, counts.functions, counts.classes) == (24, 3, 2)
    assert counts.imports == ["dataclasses", "math"]


def test_async_and_nested_functions_count():
    assert measure_file("samples", "good_async.py").functions == 2


def test_an_empty_file_counts_as_nothing():
    counts = measure_file("samples", "good_empty.py")

    assert (counts.lines, counts.functions, counts.classes, counts.imports) == (0, 0, 0, [])


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_every_kind_of_line_ending_ends_a_line(ending):
    assert measure(ending.join([b"a = 1", b"b = 2", b"c = '\x0c'"])).lines == 3


def test_relative_imports_keep_their_dots_and_each_module_is_named_once():
    source = (
        b"import os, os.path\nfrom . import a\nfrom ..b import c\ndef f():\n    import os\n"
    )

    assert measure(source).imports == [".", "..b", "os", "os.path"]


def test_the_declared_encoding_is_heeded():
    assert measure_file("samples", "good_latin1.py").lines == 4
    assert measure("# coding: cp1252\nprice = '5 €'\n".encode("cp1252")).lines == 2
    assert measure("\ufeffname = 'Zoë'\n".encode()).lines == 1


def test_bytes_that_do_not_fit_the_encoding_are_broken():
    with pytest.raises(BrokenSource, match=r"^a\.py, line 2: .*can't decode byte 0xff"):
        measure(b"ok = 1\nname = '\xff'\n", "a.py")


def test_what_python_only_warns_of_is_not_broken():
    assert measure(rb"pattern = '\d'").lines == 1


@pytest.mark.parametrize(("path", "sentence"), BROKEN_SAMPLES.items())
def test_each_broken_sample_says_file_line_and_reason(path, sentence):
    with pytest.raises(BrokenSource) as raised:
        measure_file("samples", path)

    assert str(raised.value).startswith(sentence)


# ---- finding the files


def test_the_standard_library_and_all_samples_are_found():
    found = list(find_sources())

    assert ("stdlib", "asyncio/tasks.py") in found
    assert {path for root, path in found if root == "samples"} == {
        *BROKEN_SAMPLES,
        *(file.name for file in ROOTS["samples"].glob("good_*.py")),
    }
    assert len(found) == len(set(found)) > 500


def test_what_was_found_can_be_located_and_is_no_foreign_package():
    for root, path in find_sources():
        assert locate(root, path).is_file()
        assert "site-packages" not in path


@pytest.mark.parametrize(
    ("root", "path"),
    [
        ("stdlib", "../secrets.py"),
        ("stdlib", "/etc/hosts.py"),
        ("samples", "../tasks.py"),
        ("samples", "good_shapes.txt"),
        ("elsewhere", "good_shapes.py"),
        ("samples", ""),
    ],
)
def test_a_path_outside_the_two_roots_is_refused(root, path):
    with pytest.raises(OutsideLibrary, match="is not a source file below"):
        locate(root, path)


def test_a_link_that_leads_outside_is_refused_and_not_found(tmp_path, monkeypatch):
    (tmp_path / "secret.py").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "link.py").symlink_to(tmp_path / "secret.py")
    (root / "own.py").touch()
    monkeypatch.setitem(ROOTS, "samples", root)

    assert [path for name, path in find_sources() if name == "samples"] == ["own.py"]
    with pytest.raises(OutsideLibrary):
        locate("samples", "link.py")
