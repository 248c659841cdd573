"""The library: the small real job of the site, from its parts to its screens."""

from __future__ import annotations

import io
import re
from unittest.mock import ANY

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

import taskcontrol
from project.library import tasks
from project.library.indexing import (
    ROOTS,
    BrokenSource,
    OutsideLibrary,
    find_sources,
    locate,
    measure,
)
from project.library.management.commands import index_library
from project.library.models import SourceFile
from taskcontrol.batches import counts, progress
from taskcontrol.exceptions import InvalidCall
from taskcontrol.models import TaskBatch, TaskLog
from taskcontrol.status import Status
from tests.factories import make_task, make_user
from tests.waiting import eventually

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


# ---- the tasks


@pytest.fixture
def samples_only(monkeypatch):
    """Index ten files and not the whole library."""
    monkeypatch.delitem(ROOTS, "stdlib")


def test_one_file_is_measured_and_stored(db):
    tasks.index_file("good_shapes.py", "samples")

    assert SourceFile.objects.values().get() == {
        "id": ANY,
        "root": "samples",
        "path": "good_shapes.py",
        "lines": 24,
        "functions": 3,
        "classes": 2,
        "imports": ["dataclasses", "math"],
        "indexed_at": ANY,
        "task_id": None,
        "batch_id": "",
    }


def test_indexing_a_file_again_updates_its_row(db):
    tasks.index_file("good_shapes.py", "samples")
    SourceFile.objects.update(lines=1)

    tasks.index_file("good_shapes.py", "samples")

    assert SourceFile.objects.get().lines == 24


def test_a_broken_file_stores_nothing(db):
    with pytest.raises(BrokenSource):
        tasks.index_file("broken_syntax.py", "samples")

    assert not SourceFile.objects.exists()


def test_the_coordinator_enqueues_one_batch_with_a_task_per_file(db, samples_only):
    tasks.index_library("my-batch")

    batch = TaskBatch.objects.get()
    assert (batch.total, batch.title) == (len(list(find_sources())), "Index 10 files")
    members = TaskLog.objects.filter(batch_id="my-batch").order_by("batch_order")
    assert [(task.job_name, task.arguments) for task in members] == [
        (f"Index {root}/{path}", {"root": root, "path": path})
        for root, path in find_sources()
    ]
    assert {(task.method, task.queue, task.timeout) for task in members} == {
        ("project.library.tasks.index_file", "short", 60)
    }


def test_a_coordinator_that_runs_again_does_not_double_its_batch(db, samples_only):
    tasks.index_library("my-batch")

    assert tasks.index_library("my-batch") == "Batch my-batch was enqueued before."

    assert TaskLog.objects.count() == len(list(find_sources()))


def test_the_one_who_starts_the_indexing_knows_the_batch_before_it_exists(db):
    coordinator, batch_id = tasks.start_indexing()

    assert coordinator.arguments == {"batch_id": batch_id}
    assert coordinator.batch_id is None
    assert not TaskBatch.objects.exists()


def test_a_batch_id_given_as_an_option_is_not_mistaken_for_the_argument(db):
    with pytest.raises(InvalidCall):
        taskcontrol.enqueue(tasks.index_library, batch_id="my-batch")


def test_the_names_of_all_files_are_ranked_and_what_does_not_parse_is_told(
    db, samples_only, caplog
):
    ranked = tasks.rank_names(top=2)

    assert len(ranked) == 2
    assert list(ranked.values()) == sorted(ranked.values(), reverse=True)
    assert "samples/broken_syntax.py, line 4: '(' was never closed" in caplog.text


# ---- the command


def test_the_command_prints_the_batch_that_it_started(db):
    out = io.StringIO()

    call_command("index_library", stdout=out)

    coordinator = TaskLog.objects.get(method="project.library.tasks.index_library")
    assert out.getvalue() == f"Batch {coordinator.arguments['batch_id']}\n"


def test_the_command_says_why_the_files_were_not_found(db, monkeypatch):
    failed = make_task(Status.FAILED, error_message="Traceback\nOSError: disk on fire")
    monkeypatch.setattr(index_library, "start_indexing", lambda: (failed, "my-batch"))

    with pytest.raises(CommandError, match=r"is Failed: OSError: disk on fire"):
        call_command("index_library", wait=True, stdout=io.StringIO())


# ---- all of it, with a real worker


@pytest.mark.integration
@pytest.mark.only_on("postgresql")  # minutes of work, which need no second database
def test_the_whole_library_is_indexed_and_the_numbers_equal_the_rows(worker, monkeypatch):
    coordinator, batch_id = tasks.start_indexing()
    total = len(list(find_sources()))
    eventually(lambda: progress(batch_id)["done"] == total, 300, every=0.5)

    numbers = counts(batch_id)
    assert numbers["Finished"] == SourceFile.objects.filter(batch_id=batch_id).count()
    assert numbers["Finished"] + numbers["Failed"] == total
    failed = TaskLog.objects.filter(batch_id=batch_id, status=Status.FAILED)
    for task in failed:
        name = task.job_name.removeprefix("Index ")
        reason = task.error_message.splitlines()[-1].partition(": ")[2]
        assert re.match(rf"{re.escape(name)}, line \d+: .", reason)
    assert {f"Index samples/{path}" for path in BROKEN_SAMPLES} <= {
        task.job_name for task in failed
    }

    coordinator.refresh_from_db()
    monkeypatch.setattr(index_library, "start_indexing", lambda: (coordinator, batch_id))
    out = io.StringIO()
    call_command("index_library", wait=True, stdout=out)
    first, second, *named = out.getvalue().splitlines()
    assert first == f"Batch {batch_id}"
    assert second == f"{numbers['Finished']} Finished, {numbers['Failed']} Failed"
    assert len(named) == numbers["Failed"]
    assert any(line.endswith("line 4: '(' was never closed") for line in named)


# ---- the screens


@pytest.fixture
def librarian(db):
    """A member of staff who may index the library and see what it wrote."""
    user = make_user("librarian", "view_tasklog", is_staff=True)
    for codename in ("index_sourcefile", "view_sourcefile"):
        user.user_permissions.add(Permission.objects.get(codename=codename))
    return user


def test_the_front_page_welcomes_a_visitor_and_shows_no_batch(client, db):
    TaskBatch.objects.create(id="somebodys-batch", total=1)

    page = client.get("/").content.decode()

    assert "Log in to index the library" in page
    assert "somebodys-batch" not in page


def test_the_front_page_shows_a_person_their_own_batches(client, librarian):
    TaskBatch.objects.create(id="my-batch", total=1, created_by=librarian)
    TaskBatch.objects.create(id="somebodys-batch", total=1)
    client.force_login(librarian)

    page = client.get("/").content.decode()

    assert "my-batch" in page
    assert "somebodys-batch" not in page


def test_the_front_page_counts_the_rows_of_a_batch_and_those_pruned(client, admin_user):
    TaskBatch.objects.create(id="b", total=4, pruned={"Finished": 1})
    make_task(Status.FINISHED, batch_id="b")
    make_task(Status.FAILED, batch_id="b")
    make_task(Status.PENDING, batch_id="b")
    client.force_login(admin_user)

    response = client.get("/")

    (shown,) = response.context["batches"]
    assert shown["parts"] == [("Finished", 2, 0), ("Failed", 1, 2), ("Pending", 1, 3)]
    assert (shown["done"], shown["ended"]) == (3, False)
    assert "3 of 4" in response.content.decode()
    assert 'http-equiv="refresh"' in response.content.decode()


def test_the_front_page_tells_of_a_coordinator_whose_batch_does_not_exist_yet(
    client, librarian
):
    client.force_login(librarian)
    task, _ = tasks.start_indexing()

    page = client.get("/").content.decode()

    assert ">Index the library</a>" in page
    assert f"task {task.pk}<" in page
    assert "Nothing yet" not in page
    assert 'http-equiv="refresh"' in page


def test_the_front_page_follows_a_task_that_reads_all_files(client, librarian):
    client.force_login(librarian)
    response = client.post(reverse("library:rank"), follow=True)
    task = TaskLog.objects.get(method="project.library.tasks.rank_names")
    address = reverse("admin:taskcontrol_tasklog_change", args=[task.pk])

    assert (task.queue, task.created_by_id) == ("long", librarian.pk)
    assert f'<a href="{address}">Task {task.pk}</a> reads all files' in (
        response.content.decode()
    )
    make_task(
        Status.STARTED,
        method=task.method,
        progress={"count": 1200, "total": 1810},
        created_by=librarian,
    )
    assert "Started: 1,200 of 1,810 files" in client.get("/").content.decode()


def test_a_person_outside_of_admin_logs_in_and_is_led_to_no_page_of_admin(client, db):
    ann = make_user("ann", password="a-long-pass-word")
    ann.user_permissions.add(Permission.objects.get(codename="index_sourcefile"))
    given = {"username": "ann", "password": "a-long-pass-word", "next": "/"}

    assert client.post(reverse("library:login"), given).url == "/"
    client.post(reverse("library:rank"))
    page = client.post(reverse("library:index"), follow=True).content.decode()

    for task in TaskLog.objects.all():
        assert reverse("taskcontrol:my_task", args=[task.pk]) in page
    assert "/admin/" not in page


def test_the_front_page_stands_still_when_all_have_ended(client, admin_user):
    TaskBatch.objects.create(id="b", total=1)
    make_task(Status.FAILED, batch_id="b")
    client.force_login(admin_user)

    assert 'http-equiv="refresh"' not in client.get("/").content.decode()


def test_the_front_page_needs_no_more_queries_for_more_batches(
    client, admin_user, django_assert_num_queries
):
    client.force_login(admin_user)
    TaskBatch.objects.create(id="b", total=1)
    client.get("/")  # what Django keeps in memory is read once
    with CaptureQueriesContext(connection) as one_batch:
        client.get("/")
    for number in range(4):
        TaskBatch.objects.create(id=f"b{number}", total=1)

    with django_assert_num_queries(len(one_batch)):
        client.get("/")

    assert len(one_batch) <= 7


@pytest.mark.parametrize(
    ("button", "page"),
    [
        ("library:index", "library:home"),
        ("admin:library_sourcefile_index", "admin:library_sourcefile_changelist"),
    ],
)
def test_the_button_enqueues_the_coordinator_as_the_person_and_says_where(
    client, librarian, button, page
):
    client.force_login(librarian)
    assert f'action="{reverse(button)}"' in client.get(reverse(page)).content.decode()

    response = client.post(reverse(button), follow=True)

    assert response.redirect_chain == [(reverse(page), 302)]
    task = TaskLog.objects.get(method="project.library.tasks.index_library")
    assert task.created_by_id == librarian.pk
    text = response.content.decode()
    assert reverse("admin:taskcontrol_tasklog_change", args=[task.pk]) in text
    assert f"?batch_id={task.arguments['batch_id']}" in text


@pytest.mark.parametrize(
    "button", ["library:index", "library:rank", "admin:library_sourcefile_index"]
)
class TestTheButtonRefuses:
    def test_a_visitor(self, client, db, button):
        assert reverse("library:login") in client.post(reverse(button)).url

    def test_a_person_without_the_permission(self, client, db, button):
        client.force_login(make_user("guest", is_staff=True))

        assert client.post(reverse(button)).status_code == 403

    def test_a_link(self, client, librarian, button):
        client.force_login(librarian)

        assert client.get(reverse(button)).status_code == 405

    def test_a_form_of_another_site(self, librarian, button):
        stranger = Client(enforce_csrf_checks=True)
        stranger.force_login(librarian)

        assert stranger.post(reverse(button)).status_code == 403

    @pytest.fixture(autouse=True)
    def nothing_was_enqueued(self, db):
        yield
        assert not TaskLog.objects.exists()


def test_the_index_lists_its_files_and_the_task_of_each(client, admin_user):
    tasks.index_file("good_shapes.py", "samples")
    task = make_task(Status.FINISHED)
    SourceFile.objects.update(task_id=task.pk)
    client.force_login(admin_user)

    page = client.get(reverse("admin:library_sourcefile_changelist"), {"q": "shapes"})

    assert "good_shapes.py" in page.content.decode()
    assert f">task {task.pk}</a>" in page.content.decode()
    assert "Add source file" not in page.content.decode()
