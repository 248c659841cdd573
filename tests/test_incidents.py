"""An incident is one row, however often it is seen, until it is over."""

from __future__ import annotations

import pytest
from django.db import connection

from taskcontrol import incidents
from taskcontrol.models import Incident
from tests.waiting import race

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

Kind = Incident.Kind


def test_the_same_again_counts_on_in_its_row():
    incidents.report(Kind.GHOST, "a message", task_id=7, attempt=2)
    incidents.report(Kind.GHOST, "still there", task_id=7, attempt=2, repair="none needed")
    incidents.report(Kind.GHOST, "another", task_id=7, attempt=3)

    first, other = Incident.objects.order_by("attempt")
    assert (first.count, first.found, first.repair) == (2, "still there", "none needed")
    assert first.last_at > first.first_at
    assert other.count == 1


def test_what_is_over_is_no_sign_of_trouble_and_begins_anew_when_it_comes_back():
    incidents.report(Kind.ZOMBIE, "a late end", task_id=1, attempt=1, over=True)
    assert not incidents.unresolved().exists()

    incidents.report(Kind.ZOMBIE, "it runs on", task_id=1, attempt=1)
    row = incidents.unresolved().get()
    assert row.count == 2

    assert incidents.resolve([row.pk], repair="its worker stopped it") == 1
    assert incidents.resolve([row.pk], repair="twice") == 0
    row.refresh_from_db()
    assert (row.repair, row.resolved_at is None) == ("its worker stopped it", False)


@pytest.mark.django_db(transaction=True)
def test_two_who_find_the_same_at_once_write_one_row():
    for task in range(20):
        race(*[lambda task=task: incidents.report(Kind.LOST, "gone", task_id=task)] * 2)

    assert list(Incident.objects.values_list("count", flat=True)) == [2] * 20


def test_a_trigger_may_write_one_by_its_kind_alone():
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO taskcontrol_incident (kind) VALUES ('illegal')")

    row = Incident.objects.get()
    assert (row.task_id, row.count, row.key, row.found, row.resolved_at) == (
        *(0, 1, "", "", None),
    )
    assert row.first_at is not None
