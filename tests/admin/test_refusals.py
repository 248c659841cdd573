"""What a room refuses, a person reads as a sentence: no screen answers with an error page."""

from __future__ import annotations

import json

import pytest
from django.urls import reverse
from django.utils import timezone

from taskcontrol import schedules
from taskcontrol.exceptions import KeyBusy
from taskcontrol.live import acting
from taskcontrol.models import TaskLog
from taskcontrol.screens import taskverbs
from taskcontrol.screens.taskverbs import CANCEL, act_on_all
from taskcontrol.status import Status
from tests.admin.conftest import messages_of, page_url, text_of
from tests.factories import make_task, make_type, make_worker

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

URL = "/admin/taskcontrol/tasklog/"


@pytest.fixture
def full(conf):
    """The queue ``default`` takes no more than the one task that waits there."""
    conf(QUEUES={"default": {"max_queued_jobs": 1}})
    return make_task(queue="default")


@pytest.fixture
def busy(monkeypatch):
    """Whoever wants a key at this moment does not get it in time."""

    def refuse(*given, **options):
        raise KeyBusy(["report:7"], 3)

    for module in (taskverbs, acting):
        monkeypatch.setattr(module, "retry", refuse)


@pytest.mark.parametrize(
    ("method", "says"),
    [("os.system", "may not run"), ("tests.tasks.gone_since", "has no")],
)
def test_a_task_whose_method_cannot_run_any_more_is_not_run_again(boss, method, says):
    task = make_task(Status.FINISHED, method=method)

    response = boss.post(page_url(task, "run_again"), follow=True)

    assert says in messages_of(response)[0]
    assert TaskLog.objects.count() == 1


def test_a_full_queue_takes_no_copy_and_says_so(boss, full):
    task = make_task(Status.FINISHED, queue="default")

    response = boss.post(page_url(task, "run_again"), follow=True)

    assert "takes no more" in messages_of(response)[0]


def test_a_full_queue_takes_no_run_of_a_schedule_and_says_so(boss, full):
    pytest.importorskip("django_celery_beat")
    one = schedules.create("tests.tasks.nothing", every=60, queue="default")

    response = boss.post(page_url(one, "run"), follow=True)
    assert "takes no more" in messages_of(response)[0]

    chosen = {"action": "run_selected", "_selected_action": [one.pk], "index": 0}
    response = boss.post("/admin/taskcontrol/schedule/", chosen, follow=True)
    assert "takes no more" in messages_of(response)[0]


def test_a_full_queue_takes_no_task_of_the_form_and_says_so(boss, full):
    one = make_type("tests.tasks.nothing", queue="default")

    page = text_of(boss.post(page_url(one, "run"), {}))

    assert "takes no more" in page


def test_a_busy_key_is_told_on_the_page_and_in_json(boss, busy):
    task = make_task(Status.FAILED)

    response = boss.post(page_url(task, "retry"), follow=True)
    assert "Another transaction" in messages_of(response)[0]

    answer = boss.post(f"{URL}live/{task.pk}/retry")
    assert answer.status_code == 409
    assert "Another transaction" in json.loads(answer.content)["error"]


def test_a_busy_key_is_told_to_the_owner(log_in, busy):
    owner = log_in("owner")
    make_type(owner_may_retry=True)
    task = make_task(Status.FAILED, created_by=owner.user)

    owner.post(reverse("taskcontrol:my_task_act", args=[task.pk, "retry"]))

    page = text_of(owner.get(reverse("taskcontrol:my_task", args=[task.pk])))
    assert "Another transaction" in page


def test_a_refusal_of_one_ends_no_other_of_many(boss, monkeypatch):
    first, second = make_task(), make_task()
    real = taskverbs.cancel

    def refuse(task, *given, **options):
        if task.pk == first.pk:
            raise KeyBusy(["report:7"], 3)
        return real(task, *given, **options)

    monkeypatch.setattr(taskverbs, "cancel", refuse)

    outcomes = act_on_all(CANCEL, [first, second], boss.user, "")

    assert outcomes[CANCEL.done] == 1
    assert sum(outcomes.values()) == 2


def test_an_overfull_queue_can_be_emptied_from_its_list(boss, full, monkeypatch):
    monkeypatch.setattr("taskcontrol.screens.acts.MOST_AT_ONCE", 1)
    make_worker(["default"])
    make_task(queue="default")
    confirmed = {
        "action": "cancel_tasks",
        "confirmed": "yes",
        "select_across": "1",
        "_selected_action": [full.pk],
        "until": timezone.now().isoformat(),
    }

    response = boss.post(f"{URL}?queue=default", confirmed)

    task = TaskLog.objects.latest("pk")
    assert response.status_code == 302
    assert (task.job_name, task.queue) == ("Cancel: all that match", "default")


@pytest.mark.parametrize("url", ["9999-12-31T23:59", "admin:index", "//evil.example/", "x"])
def test_a_button_goes_back_to_no_page_that_is_none_of_this_site(boss, url):
    task = make_task(Status.PENDING)

    answer = boss.post(f"{URL}{task.pk}/cancel/", {"next": url})

    assert (answer.status_code, answer["Location"]) == (302, page_url(task))
