"""The search of the tasks: what each key finds, what it refuses, and what it must not tell."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from taskcontrol.arguments import encode
from taskcontrol.status import Status
from tests.admin.conftest import list_url, messages_of, text_of
from tests.factories import make_task, make_type, make_user, make_worker, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

URL = "/admin/taskcontrol/tasklog/"


def find(client, text: str, **more):
    return client.get(URL, {"q": text, **more})


def found(client, text: str, **more) -> set[int]:
    response = find(client, text, **more)
    assert not response.context["cl"].search.mistakes
    return {task.pk for task in response.context["cl"].result_list}


def mistakes(client, text: str) -> list[str]:
    response = find(client, text)
    told = list(response.context["cl"].search.mistakes)
    page = text_of(response)
    assert page.count('role="alert"') == len(told)
    assert not told or list(response.context["cl"].result_list) == []
    return told


@pytest.fixture
def charge():
    """The task that each search here finds, beside one that none does."""
    make_type("shop.billing.charge")
    found = make_task(
        Status.FAILED,
        method="shop.billing.charge",
        job_name="Charge customer 12",
        queue="long",
        batch_id="batch-7",
        job_id="import:7",
        event="monthly",
        schedule="Every month",
        document_type="shop.Invoice",
        document_name="INV-7",
        worker=make_worker(hostname="celery@one.example"),
        created_by=make_user("ann"),
        created_at=seconds_ago(7200),
        arguments=encode(
            {"customer": {"id": 12, "name": "Ann Lee"}, "sum": Decimal("9.50"), "vip": True}
        ),
        error_message="Traceback: in line 9\nFileNotFoundError: No such file (x.py)",
    )
    make_task(method="other.thing", job_name="Other")
    return found


@pytest.mark.parametrize(
    "text",
    [
        "method:shop.billing.charge",
        "method:shop",
        "method:charge",
        "METHOD:billing.charge",
        "queue:long",
        "status:failed",
        "status:Failed",
        "batch:batch-7",
        "worker:celery@one.example",
        "worker:celery",
        "worker:one.example",
        "user:ann",
        "doc:INV-7",
        "doc:shop.Invoice/INV-7",
        "doc:invoice/INV-7",
        "args.customer.id:12",
        'args.customer.name:"Ann Lee"',
        "args.sum:9.50",
        "args.vip:true",
        "error:filenotfounderror",
        'error:"No such file (x.py)"',
        "job:import:7",
        '"import:7"',
        "event:monthly",
        'schedule:"Every month"',
        "age>1h",
        "age:>1h",
        "age<3h age>1.5h",
        "customer 12",
        "status:failed queue:long INV-7",
    ],
)
def test_each_key_finds_what_it_says(viewer, charge, text):
    assert found(viewer, text) == {charge.pk}


@pytest.mark.parametrize(
    "text",
    [
        "method:billing",
        "queue:short",
        "status:canceled",
        "batch:batch",
        "doc:INV",
        "doc:order/INV-7",
        "args.customer.id:13",
        "args.id:12",
        "args.customer:12",
        "error:PermissionError",
        "job:import",
        "age>3h",
        "id:999999",
        "id:" + "9" * 40,
        "nothing like it",
    ],
)
def test_what_is_not_so_is_not_found(viewer, charge, text):
    assert found(viewer, text) == set()


def test_a_key_of_the_task_finds_it(viewer, charge):
    assert found(viewer, f"id:{charge.pk}") == {charge.pk}
    assert found(viewer, f"{charge.pk}") == {charge.pk}
    assert found(viewer, charge.celery_task_id) == {charge.pk}


def test_stopping_is_a_status_of_the_search(viewer, charge):
    stopping = make_task(Status.CANCELED, occupies=True)

    assert found(viewer, "status:stopping") == {stopping.pk}


def test_an_age_is_found_by_halving_the_keys_whatever_their_gaps(viewer):
    ages = (9000, 8000, 4000, 3500, 600, 5)
    made = [make_task(pk=10 + 7 * n, created_at=seconds_ago(a)) for n, a in enumerate(ages)]

    for limit in (1, 60, 3600, 3700, 8500, 86400):
        older = {task.pk for task, age in zip(made, ages, strict=True) if age > limit}
        assert found(viewer, f"age>{limit}s") == older
        assert found(viewer, f"age<{limit}s") == {task.pk for task in made} - older


def test_an_age_is_asked_where_there_are_no_tasks(viewer):
    assert found(viewer, "age>1h") == found(viewer, "age<1h") == set()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("shop:7", "There is no search key shop. There are: method, queue,"),
        ("shop:7", 'stands in quotes: "shop:7".'),
        ("method.x:7", "There is no search key method.x."),
        ("args:7", "There is no search key args."),
        ("queue:", "queue: needs a value"),
        ("status:broken", "There is no status broken. There are: Pending, Paused,"),
        ("user:nobody", "There is no user nobody."),
        ("worker:nobody", "There is no worker nobody."),
        ("id:seven", "id:seven is no number."),
        ("age:1h", "age is compared"),
        ("age>soon", "age>soon is no time"),
        ("age>99999d", "age>99999d is no time"),
        ("queue:>7", "queue takes a value behind a colon"),
        ('error:"no such', 'A quote (") is not closed.'),
        ("args.password:abc", "args.password is masked"),
        ("args.a..b:1", "args. needs the name"),
        ("args.x.-1:1", "places from 0 on"),
        ("args." + ".".join("a" * 200) + ":1", "at most 10 names"),
    ],
)
def test_a_mistake_is_a_sentence_on_the_page_and_finds_nothing(viewer, charge, text, told):
    (said,) = mistakes(viewer, text)

    assert told in said


def test_each_mistake_is_told(viewer):
    assert len(mistakes(viewer, "shop:7 status:x queue:long")) == 2


@pytest.mark.parametrize(
    "text",
    [
        "args.a'b:1",
        'args.x":1',
        "args.%s:%s",
        "args.a__contains:1",
        "args.$[0]:x",
        "args.x:NaN",
        "args.x:1e999",
        "args.x:" + "9" * 5000,
        "args.x:[1,2]",
        "error:%_\\",
        "error:(((",
        "error:[a-",
        "doc:/",
        "doc:a/b/c",
        "age>" + "9" * 50 + "s",
        ":",
        "::",
        "<>",
        '""',
        "queue:" + "x" * 3000,
        "method:%",
        "user:\u202e",
        "a<b",
        "12:30",
    ],
)
@pytest.mark.parametrize("role", ["viewer", "boss", "staff"])
def test_whatever_is_typed_is_answered(request, charge, role, text):
    client = request.getfixturevalue(role)

    assert find(client, text).status_code == 200


def test_hostile_text_in_a_mistake_is_shown_as_text(viewer):
    page = text_of(find(viewer, "status:<script>alert(1)</script>"))

    assert "<script>alert(1)" not in page


# What a search must not tell


def test_masked_arguments_are_searched_by_those_who_see_them(log_in):
    task = make_task(arguments=encode({"api_key": "abc", "plain": {"password": "x"}}))
    sees = log_in("sees", "view_tasklog", "view_sensitive_tasklog")

    assert found(sees, "args.api_key:abc") == {task.pk}
    assert found(sees, "args.plain.password:x") == {task.pk}


def test_a_traceback_is_searched_by_those_who_see_it(log_in, viewer, charge):
    sees = log_in("sees", "view_tasklog", "view_sensitive_tasklog")

    assert found(viewer, 'error:"in line 9"') == set()
    assert found(sees, 'error:"in line 9"') == {charge.pk}


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x85", "\u2028"])
def test_no_line_of_a_traceback_is_told_by_what_stands_behind_it(viewer, log_in, end):
    told = f"Traceback{end}  key = 'abc'{end}ValueError: shown{end}"
    task = make_task(Status.FAILED, error_message=told)
    sees = log_in("sees", "view_tasklog", "view_sensitive_tasklog")

    for text in (f"abc'{end}ValueError", f"abc'{end}", "abc", "Traceback"):
        assert found(viewer, f'error:"{text}"') == set(), text
    assert found(viewer, 'error:"ValueError: shown"') == {task.pk}
    assert found(sees, f'error:"abc\'{end}Value"') == {task.pk}


def test_of_a_long_last_line_what_a_list_shows_is_searched(viewer):
    make_task(Status.FAILED, error_message="hidden" + "x" * 300 + "shown")

    assert found(viewer, "error:hidden") == set()
    assert len(found(viewer, "error:shown")) == 1


@pytest.mark.parametrize(
    ("path", "value", "given"),
    [
        ("args.url", "amqp://ann:pw@host/", "amqp://ann:pw@host/"),
        ("args.blob", "c2VjcmV0", b"secret"),
        ("args.blob.tc.1", "c2VjcmV0", b"secret"),
    ],
)
def test_a_value_that_is_masked_itself_is_not_confirmed(viewer, path, value, given):
    make_task(arguments=encode({path.split(".")[1]: given}))

    assert list(find(viewer, f'{path}:"{value}"').context["cl"].result_list) == []


def test_what_is_hidden_and_what_is_unknown_are_answered_alike(staff):
    """A key of somebody else's task must not shadow the labels of the own ones."""
    make_type("shop.billing.charge")
    hidden = make_task(
        Status.FAILED,
        method="shop.billing.charge",
        document_name="INV-7",
        event="e-7",
        batch_id="b-7",
    )
    keys = ["INV-7", "e-7", "b-7", "shop.billing", hidden.celery_task_id, f"{hidden.pk}"]
    for key in [*keys, "INV-8", "no.such", "987654"]:
        mine = make_task(job_name=f"about {key}", created_by=staff.user)
        assert mine.pk in found(staff, key), key


def test_who_sees_own_tasks_alone_learns_no_names(staff, charge):
    mine = make_task(created_by=staff.user)

    assert found(staff, "user:ann") == found(staff, "user:nobody") == set()
    assert found(staff, "worker:one.example") == found(staff, "worker:none") == set()
    assert found(staff, f"user:{staff.user.username}") == {mine.pk}
    assert found(staff, "method:shop") == set()


# More than a database takes


@pytest.mark.parametrize("text", ["status:failed " * 1100, "x" * 100_000, "a " * 600])
@pytest.mark.parametrize("model", ["taskbatch", "tasktype", "schedule", "taskevent"])
def test_a_search_that_is_too_long_is_refused_in_a_sentence(boss, text, model):
    (said,) = mistakes(boss, text)
    response = boss.get(list_url(model), {"q": text})

    assert said.startswith("A search takes ")
    assert response.status_code == 200
    assert model == "taskevent" or said in messages_of(response)


@pytest.mark.parametrize("value", ["9" * 20, "-" + "9" * 20, "9" * 5000, " 9_9", "x", "²"])
def test_what_can_be_no_key_of_a_user_matches_nothing(boss, value):
    make_task(created_by=boss.user)
    asked = {"created_by": value}

    assert list(boss.get(URL, asked).context["cl"].result_list) == []
    assert boss.get(f"{URL}rows", {"newer": "1", **asked}).status_code == 200
    assert boss.get(URL, {"created_by__exact": value}).status_code == 400


def test_the_tasks_of_one_user_are_narrowed_by_the_address(boss):
    mine = make_task(created_by=boss.user)
    make_task(created_by=make_user("ann"))

    response = boss.get(URL, {"created_by": boss.user.pk})

    assert [task.pk for task in response.context["cl"].result_list] == [mine.pk]


@pytest.mark.parametrize("key", ["9" * 20, "9" * 5000, "x", "1.5"])
@pytest.mark.parametrize("name", ["id", "p", "newer", "ids", "batch_order", "batch_id"])
def test_no_number_in_an_address_is_too_large_for_a_list(boss, name, key):
    make_task()

    for url in (URL, f"{URL}rows", f"{URL}{key}/change/"):
        assert boss.get(url, {name: key}).status_code in (200, 302, 400)


@pytest.mark.parametrize(
    ("model", "lookup"),
    [
        ("taskbatch", "callbacks__on_done__startswith"),
        ("taskbatch", "created_by"),
        ("schedule", "declared__arguments__startswith"),
        ("schedule", "run_as"),
        ("schedule", "last_task__error_message__contains"),
        ("tasktype", "id__in"),
        ("worker", "children__0__x"),
    ],
)
def test_an_address_narrows_a_list_by_its_filters_alone(boss, model, lookup):
    """Else what is masked could be asked for, letter by letter."""
    assert boss.get(list_url(model), {lookup: "9" * 20}).status_code == 400
    assert boss.get(list_url("schedule"), {"enabled__exact": "1"}).status_code == 200
    assert boss.get(list_url("tasktype"), {"is_standard__exact": "1"}).status_code == 200


# Searches that no index serves


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr("taskcontrol.screens.searching.NEWEST", 3)


@pytest.mark.parametrize(
    "query",
    [{"q": "queue:long"}, {"q": "args.n:1"}, {"q": "some label"}, {"queue": "long"}],
)
def test_what_no_index_serves_is_looked_for_in_the_newest_and_the_page_says_so(
    viewer, narrow, query
):
    wanted = {"queue": "long", "arguments": {"n": 1}, "job_name": "Some label"}
    make_task(**wanted)
    newer = [make_task(**wanted), make_task(), make_task()]

    response = viewer.get(URL, query)

    assert [task.pk for task in response.context["cl"].result_list] == [newer[0].pk]
    assert "Searched: the newest 3 of the tasks" in text_of(response)


def test_an_index_narrows_before_the_newest_are_looked_at(viewer, narrow):
    wanted = make_task(Status.FAILED, error_message="ValueError: x", queue="long")
    for _ in range(5):
        make_task()

    response = find(viewer, "error:ValueError")

    assert found(viewer, "error:ValueError") == {wanted.pk}
    assert found(viewer, "status:failed queue:long") == {wanted.pk}
    assert found(viewer, "queue:long", status__exact="Failed") == {wanted.pk}
    assert "Searched: the newest" not in text_of(response)


@pytest.mark.parametrize("text", ["batch:b", "method:tests", "user:ann", "status:pending"])
def test_what_an_index_serves_is_found_among_all(viewer, narrow, text):
    ann = make_user("ann")
    tasks = {make_task(batch_id="b", created_by=ann).pk for _ in range(5)}
    make_type()

    response = find(viewer, text)

    assert found(viewer, text) == tasks
    assert "Searched: the newest" not in text_of(response)


def test_many_types_of_one_beginning_are_told(viewer, monkeypatch):
    monkeypatch.setattr("taskcontrol.screens.searchkeys.MOST_METHODS", 2)
    for name in "abc":
        make_task(method=f"m.{name}")
        make_type(f"m.{name}")

    response = find(viewer, "method:m")

    assert len(response.context["cl"].result_list) == 2
    assert "More than 2 methods match" in text_of(response)


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"status__exact": "Failed"},
        {"q": "nothing like it"},
        {"q": "shop"},
        {"q": "user:ann method:shop error:x status:failed"},
        {"q": "queue:long", "status__exact": "Failed"},
        {"queue": "long", "error": "yes"},
        {"batch_id": "batch-7", "status__exact": "Failed"},
    ],
)
@pytest.mark.parametrize("role", ["viewer", "staff"])
def test_the_list_takes_ten_statements_at_most(request, role, charge, narrow, query):
    client = request.getfixturevalue(role)
    client.get(URL)

    with CaptureQueriesContext(connection) as queries:
        text_of(client.get(URL, query))

    assert len(queries) <= 10, [query["sql"] for query in queries]
