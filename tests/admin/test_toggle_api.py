"""The JSON door: who may suspend and resume the dispatcher by it, and what it answers."""

from __future__ import annotations

import json

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from taskcontrol.suspension import can_dispatch_now, dispatcher_state, toggle_dispatcher

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

URL = "/taskcontrol/api/toggle_dispatcher"
JSON = "application/json"


@pytest.fixture
def conductor(log_in):
    """May suspend and resume; needs not be of the staff."""
    return log_in("conductor", "control_dispatcher", is_staff=False)


def send(client, given, *, as_json: bool, **more):
    if as_json:
        return client.post(URL, json.dumps(given), content_type=JSON, **more)
    return client.post(URL, given, **more)


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    ("off", "on"), [(0, 1), ("0", " 1 "), ("false", "TRUE"), (False, True)]
)
def test_it_suspends_and_resumes_and_answers_the_state_by_whom_and_when(
    conductor, off, on, as_json
):
    suspended = send(conductor, {"enable": off, "reason": "maintenance"}, as_json=as_json)

    state = dispatcher_state()
    answer = suspended.json()
    assert (suspended.status_code, suspended["Content-Type"]) == (200, JSON)
    assert answer["at"][:19] == state.suspended_at.isoformat()[:19]
    assert {**answer, "at": None} == {
        "enabled": False,
        "changed": True,
        "by": "conductor",
        "at": None,
        "reason": "maintenance",
    }

    resumed = send(conductor, {"enable": on}, as_json=as_json).json()

    assert can_dispatch_now() is True
    assert (resumed["enabled"], resumed["by"], resumed["reason"]) == (True, "conductor", "")
    assert resumed["at"] >= answer["at"]
    assert LogEntry.objects.filter(user=conductor.user).count() == 2


def test_asking_for_what_is_so_already_changes_nothing(conductor):
    assert send(conductor, {"enable": 1}, as_json=True).json() == {
        "enabled": True,
        "changed": False,
        "by": None,
        "at": None,
        "reason": "",
    }
    toggle_dispatcher(False, reason="first")

    answer = send(conductor, {"enable": 0, "reason": "second"}, as_json=True).json()

    assert (answer["changed"], answer["by"], answer["reason"]) == (
        False,
        "the system",
        "first",
    )
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("as_json", [True, False])
def test_a_visitor_is_refused_in_json(client, as_json):
    response = send(client, {"enable": 0}, as_json=as_json)

    assert (response.status_code, response["Content-Type"]) == (403, JSON)
    assert response.json() == {"error": "Log in first."}
    assert can_dispatch_now() is True


@pytest.mark.parametrize("role", ["staff", "viewer", "operator"])
def test_a_person_without_the_permission_is_refused_in_json(request, role):
    response = send(request.getfixturevalue(role), {"enable": 0}, as_json=True)

    assert response.status_code == 403
    assert "'taskcontrol.control_dispatcher' is missing" in response.json()["error"]
    assert can_dispatch_now() is True
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_other_methods_are_refused_in_json(conductor, method):
    response = getattr(conductor, method)(URL)

    assert (response.status_code, response["Allow"]) == (405, "POST")
    assert response.json()["error"]


@pytest.mark.parametrize("permitted", [True, False])
def test_a_form_of_another_site_is_refused(conductor, staff, permitted):
    stranger = Client(enforce_csrf_checks=True)
    stranger.force_login(conductor.user if permitted else staff.user)

    response = send(stranger, {"enable": 0}, as_json=True)

    assert response.status_code == 403
    assert response.json()["error"].startswith("CSRF verification failed: ")
    assert can_dispatch_now() is True


def test_with_the_token_it_works(conductor):
    browser = Client(enforce_csrf_checks=True)
    browser.get("/admin/login/")
    browser.force_login(conductor.user)
    token = browser.cookies["csrftoken"].value

    response = send(browser, {"enable": 0}, as_json=True, headers={"X-CSRFToken": token})

    assert response.json()["enabled"] is False


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[1]",
        b'"enable"',
        b"\xff\xfe",
        b"[" * 100_000,
        b"{}",
        b'{"enable": 2}',
        b'{"enable": null}',
        b'{"enable": 1.0}',
        b'{"enable": [1]}',
        b'{"enable": "yes please"}',
        b'{"enable": 0, "reason": ["x"]}',
        b'{"enable": 0, "reason": 7}',
    ],
)
def test_nonsense_in_json_is_refused_with_a_sentence(conductor, body):
    response = conductor.post(URL, body, content_type=JSON)

    assert response.status_code == 400
    assert response.json()["error"].endswith(".")
    assert can_dispatch_now() is True


@pytest.mark.parametrize("form", [{}, {"enable": ""}, {"enable": "off"}, {"reason": "x"}])
def test_nonsense_in_a_form_is_refused_with_a_sentence(conductor, form):
    response = conductor.post(URL, form)

    assert response.status_code == 400
    assert response.json() == {"error": "'enable' must be 0, 1, true or false."}


def test_a_reason_is_kept_clean_and_short(conductor):
    reason = "a\0b\ud800 <script>" + "x" * 500

    answer = send(conductor, {"enable": 0, "reason": reason}, as_json=True).json()

    assert answer["reason"].startswith("a\ufffdb\ufffd <script>")
    assert len(answer["reason"]) <= 300
