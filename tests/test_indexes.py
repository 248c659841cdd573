"""Each index of the tasks serves its query, and no call reads all of many rows."""

from __future__ import annotations

import json

import pytest
from django.db import connection
from django.db.models import Count
from django.test.utils import CaptureQueriesContext

from taskcontrol.cancellation import cancel
from taskcontrol.dialect import DatabaseNow
from taskcontrol.enqueueing import bulk_enqueue, enqueue
from taskcontrol.jobs import get_job, get_job_status, get_jobs, is_job_enqueued
from taskcontrol.models import TaskLog, seconds
from taskcontrol.monitoring import get_workers, snapshot
from taskcontrol.pruning import count_prunable, prune_ended_tasks
from taskcontrol.retries import retry
from taskcontrol.rollup import roll_up
from taskcontrol.screens.story import story_of
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests import tasks as sample
from tests.factories import make_task, make_user, make_worker
from tests.waiting import eventually


def tasks():
    return TaskLog.objects.order_by()


QUERIES = {
    "lane": lambda: (
        tasks()
        .filter(ready_lane=7)
        .order_by("-at_front", "position", "batch_order", "id")[:10]
    ),
    "occupying": lambda: (
        tasks().filter(occupies=True).values("method").annotate(n=Count("pk"))
    ),
    "run_at": lambda: tasks().filter(
        status=Status.PENDING,
        ready_lane=None,
        after=None,
        run_at__isnull=False,
        run_at__lte=DatabaseNow(),
    ),
    "retry_at": lambda: (
        tasks()
        .filter(retry_at__lte=DatabaseNow(), retry_at__isnull=False)
        .order_by("retry_at")[:100]
    ),
    "expires": lambda: tasks().filter(
        expires_at__isnull=False, ended_at=None, expires_at__lte=DatabaseNow()
    ),
    "after": lambda: tasks().filter(after=5, status=Status.PENDING),
    "parent": lambda: tasks().filter(parent=40).order_by("-id")[:21],
    "queue": lambda: tasks().filter(
        queue="short", status__in=(Status.PENDING, Status.QUEUED)
    )[:17],
    "open": lambda: get_jobs("short")[:50],
    "ended": lambda: (
        tasks()
        .filter(ended_at__lt=DatabaseNow() - seconds(86400 * 30))
        .order_by("ended_at")[:100]
    ),
    "kept": lambda: (
        tasks()
        .filter(method="m.3", status=Status.FINISHED)
        .filter(ended_at__lt=DatabaseNow() - seconds(86400 * 10))
        .order_by("ended_at")[:100]
    ),
    "status": lambda: tasks().filter(status=Status.FAILED).order_by("-id")[:50],
    "batch": lambda: (
        tasks().filter(batch_id="batch-3").values("status").annotate(n=Count("pk"))
    ),
    "job_id": lambda: tasks().filter(job_id="job-17").order_by("-id")[:1],
    "job_open": lambda: tasks().unended().filter(job_id="hourly").values("pk"),
    "schedule": lambda: tasks().filter(schedule="Nightly 30").order_by("-id")[:50],
    "event": lambda: tasks().filter(event="nightly-40").order_by("-id")[:50],
    "document": lambda: tasks().filter(document_name="INV-5", document_type="invoice"),
    "method": lambda: tasks().filter(method="m.3").order_by("-id")[:50],
    "owner": lambda: tasks().filter(created_by=3).order_by("-id")[:50],
}


def test_every_index_names_the_query_that_it_serves():
    assert {one.name for one in TaskLog._meta.indexes} == {
        f"taskcontrol_task_{name}" for name in QUERIES
    }


#: How the columns of row ``n`` differ from those of a task as the model makes it.
DIFFERENT = {
    "method": "'m.' || n % 100",
    "queue": "CASE WHEN n % 7 = 0 THEN 'short' ELSE 'default' END",
    "status": "status",
    "document_type": "CASE WHEN n % 50 = 0 THEN 'invoice' ELSE '' END",
    "document_name": "CASE WHEN n % 50 = 0 THEN 'INV-' || n ELSE '' END",
    "batch_id": (
        "CASE WHEN n % 10 = 0 THEN 'batch-' || n % 1000 WHEN n % 3 = 0 THEN 'big' END"
    ),
    "celery_task_id": "CASE WHEN status <> 'Pending' THEN 'sent-' || n END",
    "started_at": "CASE WHEN ended OR status = 'Started' THEN NOW() END",
    "ended_at": "CASE WHEN ended THEN NOW() - n * INTERVAL '1 minute' END",
    "created_by_id": "CASE WHEN n % 20 = 0 THEN n % 200 END",
    "position": "n",
    "lane": "n % 100",
    "ready_lane": "CASE WHEN status = 'Pending' AND n % 2 = 0 THEN n % 100 END",
    "attempt": "1",
    "occupies": "status IN ('Queued', 'Started')",
    "job_id": "CASE WHEN n % 25 = 0 THEN 'job-' || n WHEN n % 3 = 0 THEN 'hourly' END",
    "retry_at": "CASE WHEN status = 'Failed' AND n % 3 = 0 THEN NOW() END",
    "run_at": (
        "CASE WHEN status = 'Pending' AND n % 7 = 0 THEN NOW() + n * INTERVAL '1 minute' END"
    ),
    "schedule": "CASE WHEN n % 30 = 0 THEN 'Nightly ' || n % 300 ELSE '' END",
    "event": "CASE WHEN n % 40 = 0 THEN 'nightly-' || n % 400 ELSE '' END",
    "expires_at": (
        "CASE WHEN NOT ended AND n % 11 = 0 THEN NOW() + n * INTERVAL '1 minute' END"
    ),
    "queued_at": "CASE WHEN status <> 'Pending' THEN NOW() END",
    "after_id": "CASE WHEN status = 'Pending' AND n % 13 = 0 THEN n / 2 END",
    "parent_id": "CASE WHEN n % 20 = 0 THEN n / 400 END",
}

FILL = """
INSERT INTO taskcontrol_tasklog ({columns}) SELECT {values}
FROM taskcontrol_tasklog AS model, (
    SELECT n, status AS stands, status IN ('Finished', 'Failed', 'Canceled') AS ended FROM (
        SELECT n, CASE
            WHEN n % 100 < 88 THEN 'Finished' WHEN n % 100 < 90 THEN 'Failed'
            WHEN n % 100 < 91 THEN 'Canceled' WHEN n % 1000 = 991 THEN 'Queued'
            WHEN n % 1000 = 992 THEN 'Started' ELSE 'Pending' END AS status
        FROM GENERATE_SERIES(1, 30000) n
    ) numbered
) filled
"""


def filling():
    """Return the statement; every column that no query needs is as the model makes it."""
    columns = [one.column for one in TaskLog._meta.concrete_fields if not one.primary_key]
    values = [
        DIFFERENT.get(column, f"model.{column}").replace("status", "stands")
        for column in columns
    ]
    return FILL.format(columns=", ".join(columns), values=", ".join(values))


def everybody_sees(cursor):
    """Vacuum, and return whether all rows are known to be seen by everybody.

    Before that a reader of an index must look at the rows as well, and the planner may
    prefer the table. A transaction that another test has left for a moment delays it.
    """
    cursor.execute("VACUUM ANALYZE taskcontrol_tasklog")
    cursor.execute(
        "SELECT relallvisible = relpages FROM pg_class WHERE relname = 'taskcontrol_tasklog'"
    )
    return cursor.fetchone()[0]


@pytest.fixture(scope="module")
def many_rows(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        try:
            # What other tests rolled back lies in the table as dead rows: VACUUM leaves a
            # few of them, and rows that fill the gaps are dearer to read by an index.
            cursor.execute("TRUNCATE taskcontrol_tasklog")
            make_task()
            cursor.execute(filling())
            eventually(
                lambda: everybody_sees(cursor), timeout=60, every=0.2, why=who_holds_back
            )
            yield
        finally:  # left behind, they would fail hundreds of other tests
            cursor.execute("TRUNCATE taskcontrol_tasklog")
            cursor.execute("VACUUM ANALYZE taskcontrol_tasklog")


def who_holds_back():
    """Return the other connections with a transaction, to say who keeps rows unseen."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid, state, backend_type, xact_start, query FROM pg_stat_activity"
            " WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid()"
        )
        return "\n".join(map(str, cursor.fetchall()))


@pytest.mark.django_db
@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("name", QUERIES)
def test_each_index_serves_its_query(many_rows, name):
    (plan,) = json.loads(QUERIES[name]().explain(format="json"))

    assert f"taskcontrol_task_{name}" in indexes_in(plan["Plan"])


def indexes_in(plan):
    found = {plan["Index Name"]} if "Index Name" in plan else set()
    return found.union(*(indexes_in(child) for child in plan.get("Plans", ())))


def once(**options):
    return enqueue(sample.add, left=1, job_id="hourly", deduplicate=True, **options)


def once_after_another():
    first = once()
    once(on_duplicate="return")
    once(on_duplicate="replace")
    cancel(first)
    return once()


def canceled():
    task = once()
    cancel(task)
    return task


def bulk():
    members = [{"left": n, "job_id": f"job-{n}"} for n in range(200)]
    return bulk_enqueue(members, method=sample.add, deduplicate=True)


def page_of_a_task(status):
    person = make_user(is_superuser=True)
    rows = TaskLog.objects.annotate(read_at=DatabaseNow())
    return story_of(rows.filter(status=status).order_by("-id")[0], person)


#: What must cost the same however many rows there are.
FLAT = {
    "deduplicate": once_after_another,
    "deduplicate in bulk": bulk,
    "retry by hand": lambda: retry(canceled()),
    "get_job": lambda: [get_job("hourly"), get_job("17"), get_job("celery-17")],
    "get_job_status": lambda: get_job_status("nobody"),
    "is_job_enqueued": lambda: is_job_enqueued("hourly"),
    "get_jobs": lambda: [*get_jobs()[:50], *get_jobs("short")[:50]],
    "get_workers": get_workers,
    "the page of a task that waits": lambda: page_of_a_task(Status.PENDING),
    "the page of a failed task": lambda: page_of_a_task(Status.FAILED),
    "numbers": snapshot,
    "retention": prune_ended_tasks,
    "what retention would take": count_prunable,
    "counting what ended": lambda: [dispatcher_state(), roll_up(seconds=0)],
    "what a bar counts": lambda: list(
        tasks()
        .ended()
        .filter(ended_at__gte=DatabaseNow() - seconds(7200), ended_at__lt=DatabaseNow())
        .order_by("-id")[:51]
    ),
}


@pytest.mark.django_db
@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("name", FLAT)
def test_what_must_stay_flat_reads_no_table_from_end_to_end(many_rows, conf, name):
    conf(RETENTION_DAYS={"Finished": 20, "Failed": 20}, FAILED_LIMIT_PER_TYPE=200)
    with CaptureQueriesContext(connection) as queries:
        FLAT[name]()

    read = [one["sql"] for one in queries if "taskcontrol_tasklog" in one["sql"]]
    assert read
    for sql in read:
        if sql.startswith(("SELECT", "UPDATE", "DELETE")):
            assert "taskcontrol_tasklog" not in scanned_whole(plan_of(sql)), sql


#: What narrows the list of tasks in admin.
LISTS = [
    {},
    {"p": "3"},
    *({"status__exact": status} for status in (*Status.values, "stopping")),
    {"queue": "short"},
    {"queue": "nowhere"},
    {"error": "yes"},
    {"error": "no"},
    {"retry": "due"},
    {"method": "m.3"},
    {"method": "m.3", "status__exact": "Failed"},
    {"batch_id": "batch-30"},
    {"batch_id": "big", "status__exact": "Failed"},
    {"event": "nightly-40"},
    {"job_id": "hourly"},
    {"document_name": "INV-50"},
    {"q": "17"},
    {"q": "job-25"},
    {"q": "m.3"},
    {"q": "some label"},
    {"q": "id:17"},
    {"q": "method:m.3 status:failed"},
    {"q": "method:m.3 queue:short"},
    {"q": "batch:big error:ValueError"},
    {"q": "user:ann"},
    {"q": "user:ann queue:short"},
    {"q": "doc:invoice/INV-50"},
    {"q": "job:hourly event:nightly-40"},
    {"q": 'schedule:"Nightly 30"'},
    {"q": "args.customer.id:12"},
    {"q": "error:ValueError"},
    {"q": "worker:celery@here"},
    {"q": "age>1h"},
    {"q": "age<1h"},
    {"q": "age>1h status:pending"},
]


@pytest.mark.django_db
@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("sees", [("view_tasklog",), ()], ids=["all", "own"])
@pytest.mark.parametrize("query", LISTS, ids=str)
def test_the_list_of_tasks_stays_flat_however_it_is_narrowed(
    many_rows, monkeypatch, client, query, sees
):
    monkeypatch.setattr("taskcontrol.screens.searching.NEWEST", 2000)
    monkeypatch.setattr("taskcontrol.counting.MOST_COUNTED", 300)
    make_worker(hostname="celery@here")
    ann = make_user("ann", *sees, is_staff=True, pk=40)
    client.force_login(ann)
    dispatcher_state()  # has its row from the first look on
    with CaptureQueriesContext(connection) as queries:
        page = client.get("/admin/taskcontrol/tasklog/", query)

    assert page.status_code == 200
    assert len(queries) <= 10
    read = [one["sql"] for one in queries if "taskcontrol_tasklog" in one["sql"]]
    assert read
    for sql in read:
        assert "taskcontrol_tasklog" not in scanned_whole(plan_of(sql)), sql


@pytest.mark.django_db
@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("query", [{"p": "99"}, {"q": "error:e"}], ids=str)
def test_a_page_of_the_list_looks_beside_its_own_rows_alone(many_rows, client, query):
    TaskLog.objects.filter(status=Status.FAILED).update(error_message="some error")
    client.force_login(make_user(is_staff=True, is_superuser=True))
    with CaptureQueriesContext(connection) as queries:
        assert client.get("/admin/taskcontrol/tasklog/", query).status_code == 200

    (sql,) = [one["sql"] for one in queries if "again_at" in one["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
        plan = cursor.fetchone()[0][0]["Plan"]
    loops = [one["Actual Loops"] for one in subplans_of(plan)]
    assert len(loops) == 2
    assert max(loops) <= 50, json.dumps(plan, indent=1)


def subplans_of(plan):
    for child in plan.get("Plans", ()):
        if child.get("Parent Relationship") == "SubPlan":
            yield child
        yield from subplans_of(child)


def plan_of(sql):
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}")
        return cursor.fetchone()[0][0]["Plan"]


def scanned_whole(plan):
    found = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set()
    return found.union(*(scanned_whole(child) for child in plan.get("Plans", ())))
