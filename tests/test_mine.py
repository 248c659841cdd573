"""My tasks: everybody who is logged in sees the own tasks, and nobody those of others."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from taskcontrol import mine
from taskcontrol.models import TaskEvent
from taskcontrol.status import Status
from tests.factories import make_task, make_type, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

LIST = "/taskcontrol/mine/"


def page_of(task):
    """Return the address of the page of ``task``."""
    return reverse("taskcontrol:my_task", args=[task.pk])


def verb_of(task, verb):
    """Return the address of one of its buttons."""
    return reverse("taskcontrol:my_task_act", args=[task.pk, verb])


def text_of(response):
    """Return the page, which must have come without an error."""
    assert response.status_code == 200, response
    return response.content.decode()


@pytest.fixture
def ann():
    """Somebody outside of admin, without any permission."""
    return make_user("ann")


@pytest.fixture
def client(ann):
    """Her browser, which must bring the token of its forms."""
    browser = Client()
    browser.force_login(ann)
    return browser


def test_the_list_shows_the_own_tasks_newest_first_and_no_others(client, ann):
    make_task(job_name="First of mine", created_by=ann)
    make_task(Status.FINISHED, job_name="Second of mine", created_by=ann)
    make_task(job_name="Of somebody else", created_by=make_user("bob"))
    make_task(job_name="Of the system")

    page = text_of(client.get(LIST))

    assert page.index("Second of mine") < page.index("First of mine")
    assert "Of somebody else" not in page
    assert "Of the system" not in page
    assert "Finished" in page


def test_who_sees_all_tasks_in_admin_sees_the_own_ones_here():
    boss = make_user("boss", is_superuser=True, is_staff=True)
    other = make_task(job_name="Of somebody else", created_by=make_user("bob"))
    browser = Client()
    browser.force_login(boss)

    assert "Of somebody else" not in text_of(browser.get(LIST))
    assert browser.get(page_of(other)).status_code == 404


def test_a_running_task_shows_its_bar_and_its_message(client, ann):
    said = {"count": 3, "total": 1200, "description": "page 3"}
    task = make_task(Status.STARTED, created_by=ann, progress=said)

    for url in (LIST, page_of(task)):
        page = text_of(client.get(url))
        assert 'value="3" max="1200"' in page
        assert "3 / 1,200" in page
        assert "page 3" in page


def test_a_failed_task_shows_the_last_line_of_its_error_and_no_traceback(client, ann):
    error = "Traceback (most recent call last):\n  secret line\nValueError: no such file"
    task = make_task(Status.FAILED, created_by=ann, error_message=error)

    for url in (LIST, page_of(task)):
        page = text_of(client.get(url))
        assert "ValueError: no such file" in page
        assert "secret line" not in page


def test_a_result_is_shown_without_secrets_and_arguments_are_not(client, ann):
    task = make_task(
        Status.FINISHED,
        created_by=ann,
        result={"rows": 12, "api_token": "t0ps3cret"},
        arguments={"path": "/very/internal"},
    )

    page = text_of(client.get(page_of(task)))

    assert "&quot;rows&quot;: 12" in page
    assert "t0ps3cret" not in page
    assert "/very/internal" not in page


def test_pages_follow_each_other_without_gap_or_repetition(client, ann, monkeypatch):
    monkeypatch.setattr(mine, "PER_PAGE", 2)
    tasks = [make_task(created_by=ann) for _ in range(5)]
    seen, url = [], LIST
    while url:
        page = text_of(client.get(url))
        seen += map(int, re.findall(r'<li data-tc-task="(\d+)"', page))
        older = re.search(r'href="(\?before=\d+)" rel="next"', page)
        url = LIST + older[1] if older else ""
    assert seen == [task.pk for task in reversed(tasks)]
    assert "Newest" in page


@pytest.mark.parametrize("before", ["x", "-1", "9" * 40, "%00", "²"])
def test_nonsense_in_the_address_breaks_nothing(client, ann, before):
    make_task(job_name="Mine", created_by=ann)
    assert "Mine" in text_of(client.get(f"{LIST}?before={before}"))


def test_who_has_no_tasks_reads_that(client):
    assert "You have no tasks yet" in text_of(client.get(LIST))


def test_the_list_takes_as_many_queries_for_many_tasks_as_for_one(client, ann):
    counts = []
    for number in (1, 20):
        for _more in range(number):
            make_task(Status.FAILED, created_by=ann, error_message="Boom")
        with CaptureQueriesContext(connection) as queries:
            text_of(client.get(LIST))
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 4
    heavy = ("arguments", "debug_log", '"result"')
    assert not [one for one in heavy for sql in queries if f"{one}," in sql["sql"]]


# Who gets in


@pytest.mark.parametrize("page", ["list", "task", "cancel", "retry"])
def test_nobody_gets_in_without_logging_in(ann, page):
    task = make_task(created_by=ann)
    url = {"list": LIST, "task": page_of(task)}.get(page) or verb_of(task, page)
    ask = Client().post if page in {"cancel", "retry"} else Client().get

    answer = ask(url)

    assert answer.status_code == 302
    assert "login" in answer.url
    task.refresh_from_db()
    assert task.status == Status.PENDING


def test_tasks_of_others_and_tasks_that_do_not_exist_are_answered_alike(client):
    other = make_task(created_by=make_user("bob"))
    nobodys = make_task()
    answers = []
    for key in (other.pk, nobodys.pk, 4_000_000_000, int("9" * 40)):
        answers += [client.get(f"{LIST}{key}/")]
        answers += [client.post(f"{LIST}{key}/{verb}/") for verb in ("cancel", "retry")]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) <= 2
    other.refresh_from_db()
    assert other.status == Status.PENDING


# Cancel and retry


def test_an_owner_cancels_with_a_reason_and_it_is_on_record(client, ann):
    task = make_task(created_by=ann)
    assert "Cancel this task" in text_of(client.get(page_of(task)))

    answer = client.post(verb_of(task, "cancel"), {"reason": "wrong file"}, follow=True)

    page = text_of(answer)
    assert "Canceled" in page
    assert "wrong file" in page
    event = TaskEvent.objects.get(task=task)
    assert (event.kind, event.actor, event.detail) == ("canceled", ann, "wrong file")
    assert LogEntry.objects.get(object_id=str(task.pk)).user == ann


def test_a_type_may_keep_its_owners_from_canceling(client, ann):
    make_type(owner_may_cancel=False)
    task = make_task(created_by=ann)

    assert verb_of(task, "cancel") not in text_of(client.get(page_of(task)))
    assert client.post(verb_of(task, "cancel")).status_code == 403
    task.refresh_from_db()
    assert task.status == Status.PENDING


def test_an_owner_retries_only_what_the_type_lets_him(client, ann):
    task = make_task(Status.FAILED, created_by=ann)
    assert verb_of(task, "retry") not in text_of(client.get(page_of(task)))
    assert client.post(verb_of(task, "retry")).status_code == 403

    make_type(owner_may_retry=True)

    assert verb_of(task, "retry") in text_of(client.get(page_of(task)))
    assert "Pending" in text_of(client.post(verb_of(task, "retry"), follow=True))
    task.refresh_from_db()
    assert task.status == Status.PENDING


@pytest.mark.parametrize("verb", ["retry_now", "pause", "resume", "erase", "nothing"])
def test_there_are_no_other_verbs(client, ann, verb):
    task = make_task(created_by=ann)
    assert client.post(verb_of(task, verb)).status_code == 404


def test_what_has_ended_meanwhile_is_told_in_a_sentence(client, ann):
    task = make_task(Status.FINISHED, created_by=ann)
    page = text_of(client.post(verb_of(task, "cancel"), follow=True))
    assert "Finished" in page
    assert f"{task.pk}" in page
    assert not LogEntry.objects.exists()


def test_looking_changes_nothing_and_forms_need_their_token(ann):
    task = make_task(created_by=ann)
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(ann)

    assert browser.get(verb_of(task, "cancel")).status_code == 405
    assert browser.post(verb_of(task, "cancel")).status_code == 403
    assert browser.post(LIST).status_code == 403
    task.refresh_from_db()
    assert task.status == Status.PENDING


# Looks


def test_hostile_texts_are_shown_as_texts(client, ann):
    task = make_task(
        Status.STARTED,
        job_name="<script>x</script>\u202e",
        created_by=ann,
        progress={"message": "<b>bold</b>"},
    )
    for url in (LIST, page_of(task)):
        page = text_of(client.get(url))
        assert "<script>x" not in page
        assert "&lt;script&gt;x&lt;/script&gt;\\u202e" in page
        assert "<b>bold" not in page


def test_the_pages_are_free_of_inline_script_and_style(client, ann):
    task = make_task(Status.STARTED, created_by=ann, progress={"count": 1, "total": 2})
    for url in (LIST, page_of(task)):
        page = text_of(client.get(url))
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)
        assert 'id="taskcontrol-config" type="application/json"' in page


def test_a_project_puts_its_own_page_around_them(client, ann, settings, tmp_path):
    (tmp_path / "shop.html").write_text(
        "<head>{% block head %}{% endblock %}</head><h6>Our shop</h6>{% block body %}{% endblock %}"
    )
    own = tmp_path / "taskcontrol" / "mine" / "base.html"
    own.parent.mkdir(parents=True)
    own.write_text(
        '{% extends "shop.html" %}{% block head %}<title>{% block title %}{% endblock %}</title>'
        "{% block extrahead %}{% endblock %}{% endblock %}"
        "{% block body %}{% block content %}{% endblock %}{% endblock %}"
    )
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [str(tmp_path)]}]
    make_task(job_name="Mine", created_by=ann)

    page = text_of(client.get(LIST))

    assert "Our shop" in page
    assert "Mine" in page
    assert "<title>My tasks</title>" in page
    assert "mine.css" in page.split("</head>")[0]
