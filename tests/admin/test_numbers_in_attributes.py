"""Numbers in attributes are for machines: they stay plain in every language."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from taskcontrol.models import TaskBatch
from taskcontrol.status import Status
from tests.admin.conftest import page_url, text_of
from tests.factories import make_batch, make_task, make_worker, seconds_ago

pytestmark = pytest.mark.django_db

#: An attribute of a machine with a number that is written for people.
LOCALIZED = re.compile(
    r'\b(?:value|max|width|height|[xyr]|[xy][12]|c[xy]|viewBox|data-[\w-]+)="[\d.,\s\xa0]*'
    r'\d[,\xa0]\d[\d.,\s\xa0]*"'
)


@pytest.fixture
def german(settings):
    """A site that writes 1.234,5."""
    settings.LANGUAGE_CODE = "de"
    settings.USE_THOUSAND_SEPARATOR = True


@pytest.fixture
def task(boss):
    """A running one, with large numbers everywhere."""
    return make_task(
        Status.STARTED,
        id=12345,
        rev=6789,
        batch_id=make_batch("b").pk,
        worker=make_worker(),
        occupies=True,
        created_at=seconds_ago(7200),
        started_at=seconds_ago(3600),
        created_by=User.objects.get(pk=boss.session["_auth_user_id"]),
        progress={"count": 1234.5, "total": 5678},
    )


@pytest.mark.usefixtures("german")
@pytest.mark.parametrize(
    "page", ["index", "list", "task", "running", "mine", "my task", "batches", "batch"]
)
def test_numbers_in_attributes_are_not_localized(boss, task, page):
    url = {
        "index": "/admin/taskcontrol/",
        "list": reverse("admin:taskcontrol_tasklog_changelist"),
        "task": page_url(task),
        "running": reverse("admin:taskcontrol_running"),
        "mine": reverse("taskcontrol:my_tasks"),
        "my task": reverse("taskcontrol:my_task", args=[task.pk]),
        "batches": reverse("admin:taskcontrol_taskbatch_changelist"),
        "batch": page_url(TaskBatch.objects.get()),
    }[page]

    shown = text_of(boss.get(url, headers={"accept-language": "de"}))

    assert LOCALIZED.findall(shown) == []
    if page in {"list", "task", "mine", "my task"}:
        assert 'data-tc-task="12345"' in shown
        assert 'data-tc-rev="6789"' in shown
    if page in {"list", "task", "running", "mine", "my task"}:
        assert 'value="1234.5" max="5678"' in shown
