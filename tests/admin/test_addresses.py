"""Links lead to the row that they name, on the site that the person looks at."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType

from taskcontrol.models import QueueState, TaskBatch
from taskcontrol.status import Status
from taskcontrol.suspension import toggle_dispatcher
from tests.admin.conftest import text_of
from tests.factories import make_batch, make_task, make_type, make_worker

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

#: Admin itself writes _22 for a quotation mark.
AWKWARD = "nightly_2026_11_22/a b"


def links(page: str) -> set[str]:
    """Return where a page leads to, without what is asked."""
    return {url.split("?")[0] for url in re.findall(r'(?:href|action)="(/[^"]+)"', page)}


def test_a_row_whose_key_looks_quoted_is_led_to(boss, conf):
    conf(QUEUES={AWKWARD: {}})
    batch = make_batch(AWKWARD, total=1, paused_at="2026-11-22T00:00:00Z")
    QueueState.objects.create(name=AWKWARD, paused_at="2026-11-22T00:00:00Z")
    task = make_task(queue=AWKWARD, batch_id=batch.pk)

    page = text_of(boss.get(f"/admin/taskcontrol/tasklog/{task.pk}/change/"))

    for kind in ("taskbatch", "queuestate"):
        [url] = {one for one in links(page) if f"/{kind}/" in one and "2026" in one}
        assert "nightly_2026_11_22" in text_of(boss.get(url))


def test_the_audit_leads_to_a_row_whose_key_looks_quoted(boss):
    batch = make_batch(AWKWARD)
    LogEntry.objects.create(
        user=boss.user,
        content_type=ContentType.objects.get_for_model(TaskBatch),
        object_id=batch.pk,
        object_repr="it",
        action_flag=2,
        change_message="Paused.",
    )

    page = text_of(boss.get("/admin/taskcontrol/taskevent/"))

    [url] = {one for one in links(page) if "/taskbatch/" in one and "2026" in one}
    text_of(boss.get(url))


def test_every_screen_of_a_second_site_stays_there(boss, settings):
    settings.ROOT_URLCONF = "tests.admin.secondsite"
    kind, batch = make_type(), make_batch(total=3)
    worker = make_worker()
    places = {"method": kind.method, "batch_id": batch.pk}
    tasks = [
        make_task(Status.STARTED, worker=worker, **places),
        make_task(Status.FAILED, worker=worker, error_message="x", **places),
        make_task(**places),
    ]
    queue = QueueState.objects.create(name="default")
    toggle_dispatcher(False, user=boss.user)
    rows = [kind, batch, worker, queue, *tasks]
    base = "/second/taskcontrol/"
    pages = [base, f"{base}worker/running/"]
    pages += [f"{base}{row._meta.model_name}/" for row in rows]
    pages += [f"{base}{row._meta.model_name}/{row.pk}/change/" for row in rows]
    pages += [f"{base}taskevent/", f"{base}tasktype/{kind.pk}/run/"]

    away = {
        (page, url)
        for page in pages
        for url in links(text_of(boss.get(page)))
        if url.startswith("/admin/") and "theme" not in url
    }

    assert not away
    assert f"{base}tasklog/" in links(text_of(boss.get(base)))
    # And the first one is not led astray by what the second one was asked before.
    assert not any(
        url.startswith("/second/")
        for url in links(
            text_of(boss.get(f"/admin/taskcontrol/tasklog/{tasks[0].pk}/change/"))
        )
    )
