"""Tasks act on documents, link to them and tell them: what is checked, stored and run."""

from __future__ import annotations

import uuid

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import taskcontrol
from taskcontrol import actions, announcing, lifecycle, registry, tasktypes
from taskcontrol.checks.site import check_site
from taskcontrol.context import current_task, current_user, without_user_code
from taskcontrol.exceptions import (
    ActionNotAllowed,
    DocumentBusy,
    InvalidCall,
    KeyTaken,
    MethodNotCallable,
)
from taskcontrol.execution import run
from taskcontrol.models import Announcement, TaskKey, TaskLog, TaskType
from taskcontrol.status import Status
from tests.factories import make_task, make_user
from tests.models import Counter, Paper, Ticket
from tests.waiting import race

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]


@pytest.fixture
def paper():
    return Paper.objects.create(title="lease")


@pytest.fixture(autouse=True)
def careless_marks(monkeypatch):
    """Marks that the checks of the site would find, and what is declared of them."""
    for method in (Paper.hide, Paper.dream):
        monkeypatch.setattr(method, actions.MARK, {}, raising=False)
    for known in (registry.declarations, actions.declared):
        for key in ("tests.Paper.hide", "tests.Paper.dream"):
            monkeypatch.setitem(known, key, None)
            del known[key]


def run_now(task):
    """Run a task here to its end, and return its row."""
    (sent,) = lifecycle.promote([task.pk], site="s")
    run(task.pk, sent.attempt)
    return TaskLog.objects.get(pk=task.pk)


# The call


@pytest.mark.parametrize(
    "call",
    [
        lambda paper: taskcontrol.enqueue_doc("tests.Paper", paper.pk, "stamp", mark="x"),
        lambda paper: taskcontrol.enqueue_doc(
            "tests.paper", str(paper.pk), "stamp", mark="x"
        ),
        lambda paper: taskcontrol.enqueue_doc(Paper, paper.pk, "stamp", mark="x"),
        lambda paper: taskcontrol.enqueue_doc(Paper, name=paper, method="stamp", mark="x"),
        lambda paper: taskcontrol.enqueue_doc(paper, "stamp", mark="x"),
        lambda paper: taskcontrol.enqueue_doc(paper, method="stamp", mark="x"),
        lambda paper: taskcontrol.enqueue(
            document_type="tests.Paper",
            document_name=paper.pk,
            document_action="stamp",
            arguments={"mark": "x"},
        ),
        lambda paper: taskcontrol.enqueue(
            document_type=paper, document_action="stamp", mark="x"
        ),
    ],
    ids=str,
)
def test_an_action_is_called_by_name_class_or_instance(call, paper):
    task = call(paper)

    task.refresh_from_db()
    assert (task.method, task.job_name) == ("tests.Paper.stamp",) * 2
    assert (task.document_type, task.document_name) == ("tests.Paper", str(paper.pk))
    assert task.document_action == "stamp"
    assert run_now(task).result == "lease x"


def test_enqueueing_an_action_is_one_insert(paper):
    taskcontrol.enqueue_doc(paper, "stamp", mark="x")  # reads the types, once

    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        taskcontrol.enqueue_doc(paper, "stamp", mark="x")

    written = [one["sql"] for one in queries if "SAVEPOINT" not in one["sql"]]
    assert len(written) == (1 if connection.features.can_return_columns_from_insert else 2)
    assert written[0].startswith("INSERT INTO")


def test_many_actions_are_one_batch():
    papers = [Paper.objects.create(title=f"p{n}") for n in range(3)]

    batch = taskcontrol.bulk_enqueue(
        ({"document_name": one.pk, "mark": one.title} for one in papers),
        document_type=Paper,
        document_action="stamp",
    )

    rows = TaskLog.objects.filter(batch_id=batch).order_by("batch_order")
    assert [run_now(row).result for row in rows] == ["p0 p0", "p1 p1", "p2 p2"]


def test_a_key_that_is_no_number_comes_back_as_what_it_is():
    ticket = Ticket.objects.create(price=12)

    task = taskcontrol.enqueue_doc("tests.Ticket", ticket.pk.hex, "sell")

    assert task.document_name == str(ticket.pk)
    assert task.heard is False
    assert run_now(task).result == 12


def test_the_private_form_of_an_action_comes_first(paper):
    task = paper.submit(note="at last")

    assert (task.method, task.queue) == ("tests.Paper.submit", "short")
    assert run_now(task).result == "submitted lease at last"
    paper.refresh_from_db()
    assert paper.state == "submitted"


def test_a_method_of_the_class_may_be_an_action(paper):
    assert run_now(taskcontrol.enqueue_doc(paper, "describe")).result == "Paper"


def test_a_type_and_a_name_beside_a_method_are_a_link(paper):
    task = taskcontrol.enqueue("tests.tasks.nothing", document_type=paper)

    assert (task.document_type, task.document_action) == ("tests.Paper", "")
    assert (task.method, task.heard) == ("tests.tasks.nothing", True)
    assert run_now(task).status == Status.FINISHED


def test_a_link_may_lead_to_nothing():
    task = taskcontrol.enqueue("tests.tasks.nothing", document_type=Paper, document_name=99)

    assert run_now(task).status == Status.FINISHED


# What is refused


def refusals():
    paper = Paper(pk=1, title="p")
    everything = {"document_type": Paper, "document_name": 1, "document_action": "stamp"}
    return [
        ({"document_type": Paper}, "document_name and document_action are missing"),
        ({"document_type": Paper, "document_name": 1}, "document_action is missing"),
        ({"document_name": 1, "document_action": "stamp"}, "document_type is missing"),
        ({"document_action": "stamp"}, "document_type and document_name are missing"),
        (
            {"document_type": Paper, "document_action": "stamp"},
            "document_name is missing",
        ),
        ({"method": "tests.tasks.nothing", "document_name": 1}, "document_type"),
        ({"method": "tests.tasks.nothing", **everything}, "give one of them"),
        ({**everything, "document_type": "tests.Nothing"}, "names no model"),
        ({**everything, "document_type": "Paper"}, "names no model"),
        ({**everything, "document_type": 5}, "names no model"),
        ({**everything, "document_name": "seven"}, "cannot be a key of tests.Paper"),
        (
            {**everything, "document_type": Ticket, "document_name": "x"},
            "cannot be a key of tests.Ticket",
        ),
        ({**everything, "document_type": Paper(), "document_name": None}, "is not saved"),
        ({**everything, "document_name": (1, 2)}, "a key of several columns"),
        ({**everything, "document_action": "_submit"}, "without underscores"),
        ({**everything, "document_action": "a b"}, "without underscores"),
        ({**everything, "document_action": "fly"}, "neither 'fly' nor '_fly'"),
        (
            {**everything, "document_action": "color"},
            "'color' of the model is not a method",
        ),
        ({**everything, "document_action": "Meta"}, "neither 'Meta'"),
        ({**everything, "document_action": "DoesNotExist"}, "is not a method"),
        ({**everything, "document_action": "dream"}, "makes a coroutine"),
        ({**everything}, "missing a required argument: 'mark'"),
        ({**everything, "arguments": {"mark": 1, "nib": 2}}, "unexpected keyword"),
        ({"document_type": paper, "document_action": "x" * 101}, "at most 100 fit"),
    ]


@pytest.mark.parametrize(("options", "sentence"), refusals(), ids=str)
def test_half_a_document_and_wrong_ones_are_refused(options, sentence):
    with pytest.raises(InvalidCall, match=sentence):
        taskcontrol.enqueue(**options)

    assert not TaskLog.objects.exists()


def test_enqueue_doc_needs_a_method(paper):
    with pytest.raises(InvalidCall, match="needs the name of a method"):
        taskcontrol.enqueue_doc(paper)


@pytest.mark.parametrize("action", ["shred", "delete", "save", "hide"])
def test_only_marked_methods_are_actions(paper, action):
    with pytest.raises(ActionNotAllowed, match=r"@taskcontrol\.document_action"):
        taskcontrol.enqueue_doc(paper, action)


@pytest.mark.parametrize("entry", ["tests.Counter.raise_by", "tests.Counter.*"])
def test_a_setting_allows_methods_that_nobody_marked(conf, entry):
    counter = Counter.objects.create(name="c")
    with pytest.raises(ActionNotAllowed, match="DOCUMENT_ACTIONS"):
        taskcontrol.enqueue_doc(counter, "raise_by")
    conf(DOCUMENT_ACTIONS=[entry])

    task = taskcontrol.enqueue_doc(counter, "raise_by", amount=5)

    assert run_now(task).result == 5


def test_what_is_allowed_is_asked_again_in_the_worker(conf):
    counter = Counter.objects.create(name="c")
    conf(DOCUMENT_ACTIONS=["tests.Counter.raise_by"])
    task = taskcontrol.enqueue_doc(counter, "raise_by")
    conf(DOCUMENT_ACTIONS=[])

    ended = run_now(task)

    assert (ended.status, ended.ended_reason) == ("Failed", "not allowed in this worker")
    assert "ActionNotAllowed: 'tests.Counter.raise_by' may not run" in ended.error_message


def test_a_method_that_is_gone_in_the_worker_is_told(paper, monkeypatch):
    task = taskcontrol.enqueue_doc(paper, "stamp", mark="x")
    monkeypatch.delattr(Paper, "stamp")

    ended = run_now(task)

    assert (ended.status, ended.ended_reason) == ("Failed", "unknown method")


def test_a_model_that_is_gone_in_the_worker_is_told(paper):
    task = taskcontrol.enqueue_doc(paper, "stamp", mark="x")
    TaskLog.objects.update(document_type="tests.Gone")

    ended = run_now(task)

    assert (ended.status, ended.ended_reason) == ("Failed", "unknown method")
    assert "there is no model 'tests.Gone'" in ended.error_message


def test_a_document_that_is_gone_fails_for_good(paper):
    task = taskcontrol.enqueue_doc(paper, "stamp", mark="x", max_retries=3)
    key = paper.pk
    paper.delete()

    ended = run_now(task)

    assert (ended.status, ended.retry_at, ended.ended) == ("Failed", None, True)
    assert f"There is no tests.Paper {key} in the database 'default'" in ended.error_message


def test_the_document_is_read_when_the_body_begins(paper):
    task = taskcontrol.enqueue_doc(paper, "stamp", mark="x")
    Paper.objects.update(title="changed")

    assert run_now(task).result == "changed x"


# Types


def test_a_marked_method_declares_its_type():
    tasktypes.sync_declared()

    row = TaskType.objects.get(method="tests.Paper.submit")

    assert (row.is_standard, row.one_per_document, row.queue) == (True, True, "short")
    assert TaskType.objects.filter(method="tests.Paper.stamp", is_standard=True).exists()


def test_a_wrong_option_of_the_decorator_is_refused_at_the_start(monkeypatch):
    wrong = actions.document_action(colour="red")(lambda self: None)
    monkeypatch.setattr(Paper, "wrong", wrong, raising=False)

    with pytest.raises(InvalidCall, match=r"tests\.Paper\.wrong.*colour"):
        tasktypes.declare_actions()


def test_the_checks_find_the_marked_methods_that_cannot_run(monkeypatch):
    for action in ("dream", "hide", "stamp"):
        key = f"tests.Paper.{action}"
        monkeypatch.setitem(registry.declarations, key, registry.Declaration(key))
        monkeypatch.setitem(actions.declared, key, (Paper, action))

    found = [one.msg for one in check_site() if one.id == "taskcontrol.W045"]

    assert [msg.split()[4] for msg in found] == ["tests.Paper.dream", "tests.Paper.hide"]


def test_an_action_that_waits_is_not_said_to_fail(paper):
    task = taskcontrol.enqueue_doc(paper, "stamp", mark="x")
    assert "method" not in [one.code for one in taskcontrol.explain(task)]

    TaskLog.objects.update(document_action="shred")

    assert "ActionNotAllowed" not in str(taskcontrol.explain(task))
    assert "may not run as an action" in taskcontrol.explain(task)[0].text


def test_an_override_without_the_mark_is_no_action():
    class Mixin:
        def stamp(self) -> None:
            """Not marked."""

    assert "stamp" in dict(actions.marked(Paper))
    assert "stamp" not in dict(
        actions.marked(
            type(
                "Other",
                (Mixin, Paper.__base__),
                {
                    "__module__": "tests.models",
                    "Meta": type("Meta", (), {"abstract": True}),
                },
            )
        )
    )


# One at a time


def test_a_second_call_is_refused_until_the_first_has_ended(paper):
    first = paper.submit()

    with pytest.raises(
        DocumentBusy, match=f"task {first.pk} does it already and is Pending"
    ):
        paper.submit()
    assert TaskLog.objects.count() == 1

    run_now(first)
    assert paper.submit().pk != first.pk


def test_a_failed_one_with_a_retry_due_has_not_ended(paper):
    first = paper.submit(max_retries=1)
    lifecycle.promote([first.pk], site="s")
    lifecycle.claim(first.pk, 1, worker_id=None, pid=1)
    lifecycle.fail(first.pk, 1, error="no", retry_in=60)

    with pytest.raises(DocumentBusy, match="is Failed"):
        paper.submit()


def test_other_documents_and_other_actions_go_on(paper):
    paper.submit()

    Paper.objects.create(title="other").submit()
    taskcontrol.enqueue_doc(paper, "stamp", mark="x")
    taskcontrol.enqueue_doc(paper, "stamp", mark="x")

    assert TaskLog.objects.count() == 4


def test_an_action_that_runs_at_once_is_one_at_a_time_too(paper):
    assert paper.submit(now=True).result == "submitted lease"
    assert paper.submit(now=True).status == Status.FINISHED
    paper.submit()

    with pytest.raises(DocumentBusy):
        paper.submit(now=True)


def test_a_job_id_and_a_document_are_both_held(paper):
    first = paper.submit(job_id="j", deduplicate=True)
    other = Paper.objects.create(title="other")

    assert other.submit(job_id="j", deduplicate=True) is None
    with pytest.raises(DocumentBusy):
        paper.submit(job_id="k", deduplicate=True)
    run_now(first)
    assert other.submit(job_id="j", deduplicate=True).status == Status.PENDING
    assert paper.submit(job_id="k", deduplicate=True).status == Status.PENDING


def test_a_retry_does_not_overtake_a_second_call(paper):
    first = paper.submit()
    first.cancel()
    second = paper.submit()

    with pytest.raises(KeyTaken, match=f"belongs to task {second.pk}"):
        first.retry()

    second.cancel()
    assert first.retry().status == Status.PENDING


def test_two_of_one_bulk_call_are_refused_whole(paper):
    call = {"document_type": paper, "document_action": "submit"}

    with pytest.raises(DocumentBusy, match="another task of the same call"):
        taskcontrol.bulk_enqueue([call, call])

    assert not TaskLog.objects.exists()
    assert not TaskKey.objects.filter(task__isnull=False).exists()


def test_a_very_long_key_is_told_apart_too():
    tasktypes.sync_declared()
    document = taskcontrol.documents.document_of(
        None, {"document_type": Paper, "document_name": 1, "document_action": "stamp"}
    )
    long = type(document)(Paper, "9" * 255, "stamp", "default")
    other = type(document)(Paper, "8" * 255, "stamp", "default")

    from taskcontrol.exclusion import key_of

    assert len(key_of(long).text) <= 255
    assert key_of(long) != key_of(other)


def test_of_calls_that_race_one_is_taken(paper):
    paper = Paper.objects.get()

    answers = race(*[paper.submit] * 4)

    assert sum(isinstance(one, TaskLog) for one in answers) == 1
    assert sum(isinstance(one, DocumentBusy) for one in answers) == 3


# Telling the document


@pytest.fixture
def heard(monkeypatch):
    """What papers hear, with what is seen there."""
    told = []

    def listen(paper, task, message, error):
        told.append((paper.pk, task.status, message, error, current_user(), current_task()))

    monkeypatch.setattr(Paper, "heard", listen)
    return told


def test_a_document_is_told_of_every_change_in_order(heard):
    ann, paper = make_user("ann"), Paper.objects.create(title="lease")
    task = taskcontrol.enqueue_doc(paper, "burn", max_retries=1, created_by=ann)

    run_now(task)
    lifecycle.retry_by_hand(task.pk, Status.FAILED)
    taskcontrol.cancel(task, reason="enough")

    error = "ValueError: lease does not burn"
    assert heard == [
        (paper.pk, "Queued", None, None, ann, None),
        (paper.pk, "Started", None, None, ann, None),
        (paper.pk, "Failed", None, error, ann, None),
        (paper.pk, "Pending", None, None, ann, None),
        (paper.pk, "Canceled", "enough", None, ann, None),
    ]


def test_a_document_is_told_when_its_task_is_paused_and_goes_on(heard):
    task = taskcontrol.enqueue_doc(Paper.objects.create(title="lease"), "stamp", mark="x")

    taskcontrol.pause(task)
    taskcontrol.resume(task)

    assert [one[1] for one in heard] == ["Paused", "Pending"]


def test_a_document_is_told_of_a_batch_that_is_paused_and_canceled(heard):
    papers = [Paper.objects.create(title=title) for title in "ab"]
    batch = taskcontrol.bulk_enqueue(
        ({"document_name": paper.pk, "mark": "x"} for paper in papers),
        document_type=Paper,
        document_action="stamp",
    )

    taskcontrol.pause_batch(batch)
    taskcontrol.resume_batch(batch)
    taskcontrol.cancel_batch(batch)

    for paper in papers:
        told = [one[1] for one in heard if one[0] == paper.pk]
        assert told == ["Paused", "Pending", "Canceled"]


def test_a_model_that_listens_no_more_is_told_nothing(paper, monkeypatch):
    task = taskcontrol.enqueue_doc(paper, "stamp", mark="x")
    monkeypatch.delattr(Paper, "on_async_task_status_update")

    assert run_now(task).status == Status.FINISHED
    assert not Announcement.objects.exists()


def test_what_a_pass_did_is_told_later_with_the_status_it_had(heard):
    task = taskcontrol.enqueue_doc(Paper.objects.create(title="lease"), "stamp", mark="x")
    with without_user_code():
        lifecycle.promote([task.pk], site="s")
        lifecycle.claim(task.pk, 1, worker_id=None, pid=1)
    assert heard == []

    announcing.deliver_stored()

    assert [one[1] for one in heard] == ["Queued", "Started"]


def test_a_linked_document_is_told_too_and_of_messages(heard):
    paper = Paper.objects.create(title="lease")
    task = taskcontrol.enqueue("tests.tasks.nothing", document_type=paper)

    task.notify_status("half way")

    assert [one[1:4] for one in heard] == [("Pending", "half way", None)]


@pytest.mark.parametrize("title", ["angry", "rude"])
def test_what_a_document_raises_is_logged_and_harms_nothing(title, caplog):
    task = taskcontrol.enqueue_doc(Paper.objects.create(title=title), "stamp", mark="x")

    assert run_now(task).status == Status.FINISHED

    assert caplog.text.count("tell_document failed at the news") == 3
    assert announcing.has_stored() is False


def test_a_deleted_document_is_told_nothing(heard, caplog):
    paper = Paper.objects.create(title="lease")
    task = taskcontrol.enqueue("tests.tasks.nothing", document_type=paper)
    paper.delete()

    run_now(task)

    assert heard == []
    assert "failed" not in caplog.text


def test_what_hears_nothing_costs_nothing():
    ticket = Ticket.objects.create(id=uuid.uuid4())

    assert taskcontrol.enqueue_doc(ticket, "sell").heard is False
    assert make_task().heard is False


def test_what_is_not_callable_is_said_so(paper):
    with pytest.raises(MethodNotCallable, match="not a method"):
        taskcontrol.enqueue_doc(paper, "color")


# What is of another kind


def test_a_document_of_another_model_is_refused():
    user = make_user("bob")
    with pytest.raises(InvalidCall, match=r"is a auth\.User and no tests\.Paper"):
        taskcontrol.enqueue_doc("tests.Paper", user, "stamp")


def test_an_instance_and_the_key_of_another_are_refused():
    paper = Paper.objects.create()
    with pytest.raises(InvalidCall, match="leave one of them out"):
        taskcontrol.enqueue_doc(paper, paper.pk + 1, "stamp")
    assert taskcontrol.enqueue_doc(paper, paper.pk, "stamp", mark="x").document_name == str(
        paper.pk
    )


@pytest.mark.parametrize("key", [True, 1.5])
def test_a_key_is_not_rounded(key):
    with pytest.raises(InvalidCall, match="cannot be a key of tests\\.Paper"):
        taskcontrol.enqueue_doc("tests.Paper", key, "stamp")
