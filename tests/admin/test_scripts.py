"""The screen of the scripts: who writes them, what is refused there, and running one."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission

from taskcontrol.contrib.scripts.models import Script
from taskcontrol.models import TaskLog
from tests.admin.conftest import messages_of, text_of

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

URL = "/admin/taskcontrol_scripts/script/"


@pytest.fixture
def log_in_with(log_in):
    """Return the browser of somebody with these permissions on scripts."""

    def browser(name, *verbs):
        person = log_in(name)
        for verb in verbs:
            person.user.user_permissions.add(
                Permission.objects.get(codename=f"{verb}_script")
            )
        return person

    return browser


@pytest.fixture
def author(log_in_with):
    """May write scripts."""
    return log_in_with("author", "view", "add", "change", "delete")


def form(**values):
    return {"name": "totals", "source": "return 1", "enabled": "on", **values}


def test_who_has_the_permission_writes_and_changes_scripts(author):
    text_of(author.post(f"{URL}add/", form(), follow=True))
    script = Script.objects.get()
    text_of(author.post(f"{URL}{script.pk}/change/", form(source="return 2"), follow=True))

    assert Script.objects.get().source == "return 2"
    assert LogEntry.objects.filter(user=author.user).count() == 2
    assert "monospace" in text_of(author.get(f"{URL}{script.pk}/change/"))


def test_without_it_nobody_sees_or_writes_one(staff, operator):
    Script.objects.create(name="totals", source="return 1")

    for person in (staff, operator):
        assert person.get(URL).status_code == 403
        assert person.post(f"{URL}add/", form()).status_code == 403


def test_a_script_with_a_fault_is_not_saved_and_the_line_is_named(author):
    page = text_of(author.post(f"{URL}add/", form(source="x = 1\nimport os")))

    assert "Line 2: import cannot stand in a script." in page
    assert not Script.objects.exists()


def test_a_script_is_run_as_the_person(author):
    script = Script.objects.create(name="totals", source="return 1")

    page = author.post(
        URL, {"action": "run_scripts", "_selected_action": [script.pk]}, follow=True
    )

    task = TaskLog.objects.get()
    assert (task.method, task.created_by) == ("script:totals", author.user)
    assert messages_of(page) == [f"totals: Run as task {task.name}."]
    assert LogEntry.objects.get().change_message == f"Run as task {task.name}."
    assert "/admin/taskcontrol/tasklog/?method=script%3Atotals" in text_of(page)


def test_who_lacks_what_a_script_asks_for_does_not_run_it(log_in_with):
    viewer = log_in_with("viewer", "view")
    one = Script.objects.create(name="a", source="return 1", permission="tests.view_paper")
    off = Script.objects.create(name="b", source="return 1", enabled=False)

    page = viewer.post(
        URL,
        {"action": "run_scripts", "_selected_action": [one.pk, off.pk]},
        follow=True,
    )

    told = messages_of(page)
    assert "viewer may not call script:a: the permission 'tests.view_paper'" in told[0]
    assert "'script:b' may not be called safely" in told[1]
    assert not TaskLog.objects.exists()
