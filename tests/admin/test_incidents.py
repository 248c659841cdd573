"""What was found amiss is seen on a screen of its own, and as a sign on the overview."""

from __future__ import annotations

import pytest

from taskcontrol import incidents
from taskcontrol.models import Incident
from tests.factories import make_task, seconds_ago

pytestmark = pytest.mark.django_db

LIST, OVERVIEW = "/admin/taskcontrol/incident/", "/admin/taskcontrol/"
Kind = Incident.Kind


@pytest.fixture
def looker(log_in):
    return log_in("looker", "view_incident", "view_tasklog", "view_dispatcherstate")


def sign_of(client):
    signs = client.get(OVERVIEW).context["signs"]
    return next(sign for sign in signs if sign.name == "Incidents")


def test_the_list_tells_what_was_found_and_what_mends_it_unresolved_first(looker):
    task = make_task()
    incidents.report(Kind.ZOMBIE, "a late end", task_id=1, repair="refused", over=True)
    incidents.report(Kind.LOST, "<b>gone</b>", task_id=task.pk, attempt=2, repair="resent")
    Incident.objects.filter(kind=Kind.LOST).update(last_at=seconds_ago(600), count=1234)

    page = looker.get(LIST)

    first, second = page.context["cl"].result_list
    assert (first.kind, second.kind) == (Kind.LOST, Kind.ZOMBIE)
    text = page.content.decode()
    for told in ("&lt;b&gt;gone&lt;/b&gt;", "resent", "attempt 2", "1,234", "refused"):
        assert told in text
    assert f"/admin/taskcontrol/tasklog/{task.pk}/change/" in text


def test_the_list_is_narrowed_by_state_and_kind(looker):
    incidents.report(Kind.ZOMBIE, "a late end", over=True)
    incidents.report(Kind.GHOST, "a message")

    def kinds(query):
        page = looker.get(f"{LIST}?{query}")
        assert page.status_code == 200
        return [row.kind for row in page.context["cl"].result_list]

    assert kinds("state=open") == [Kind.GHOST]
    assert kinds("state=over") == [Kind.ZOMBIE]
    assert kinds("kind=zombie") == [Kind.ZOMBIE]
    assert kinds("kind=lost") == []


def test_who_may_not_see_tasks_gets_no_links_to_them(log_in):
    incidents.report(Kind.LOST, "gone", task_id=make_task().pk)

    text = log_in("blind", "view_incident").get(LIST).content.decode()

    assert "/tasklog/" not in text.partition('id="result_list"')[2]


def test_without_incidents_the_sign_is_good(looker):
    sign = sign_of(looker)
    assert (sign.word, sign.good) == ("none", True)


def test_unresolved_incidents_are_a_bad_sign_that_leads_to_them(looker):
    incidents.report(Kind.LOST, "gone", task_id=1)
    incidents.report(Kind.GHOST, "a message", task_id=2)
    incidents.report(Kind.ZOMBIE, "over", task_id=3, over=True)

    sign = sign_of(looker)

    assert (sign.word, sign.good) == ("2 unresolved", False)
    assert f'href="{LIST}?state=open"' in sign.detail
    assert "ghost message 1, lost 1" in sign.detail


def test_a_message_that_leads_to_nothing_is_told_and_is_no_bad_sign(looker):
    incidents.report(Kind.GHOST, "a message")

    assert sign_of(looker).good


def test_who_may_not_see_incidents_is_told_how_many_and_gets_no_link(log_in):
    incidents.report(Kind.LOST, "gone")

    sign = sign_of(log_in("blind", "view_tasklog", "view_dispatcherstate"))

    assert sign.word == "1 unresolved"
    assert "href" not in str(sign.detail)
