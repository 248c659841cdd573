"""Every code block of the four documents, in their order, run with only the names translated.

The blocks stand here as they stand there; where the first document had lost its indentation,
it was put back, and where a test looks at what a call returns, ``task =`` was put before it.

``define`` and ``run`` translate a block by the table and execute it: what a block defines
becomes a part of this module, where the worker finds it, and what it calls is called by the
test below it. What takes more than a table of names has its own words beside it, and
``NOT_TRANSLATED`` names what has no translation, and why. The blocks in JavaScript stand in
``tests/live/seedpages.py``, and run in a browser.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from django.core.management import load_command_class
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone  # noqa: F401 - for the blocks

import taskcontrol
from taskcontrol import batches, pausing, pruning
from taskcontrol.conf import known_queues
from taskcontrol.context import acting_as, current_user  # noqa: F401 - for the blocks
from taskcontrol.exceptions import InvalidTransition, QueueOverloaded
from taskcontrol.models import Schedule, TaskLog, TaskType
from taskcontrol.schedulerows import sync_schedules
from taskcontrol.status import MOVES, Status
from tests import seedapp, tasks as sample_tasks
from tests.factories import make_task, make_user, seconds_ago
from tests.integration.watching import all_ended, ended, free, row
from tests.lab import LAB
from tests.live.seedpages import BLOCKS
from tests.models import Counter, Order, SyncLog
from tests.seedapp import Document, log, msgprint, process, publish_realtime, sql  # noqa: F401 - for the blocks
from tests.servers.environment import site_environment
from tests.servers.process import Process
from tests.servers.worker import QUICK, Worker
from tests.test_cron import SEEDS
from tests.waiting import eventually

pytestmark = pytest.mark.integration

HERE = "tests.test_seed_examples"

#: What stands in the documents, and what it is called here.
NAMES = {
    # The functions of the first document.
    "from tweaks.tweaks.doctype.async_task_log.async_task_log_dispatch": "from taskcontrol",
    "from tweaks.tweaks.doctype.async_task_log.async_task_log": "from taskcontrol",
    "enqueue_async_task": "enqueue",
    "enqueue_safe_async_task": "enqueue_safe",
    "bulk_enqueue_async_task": "bulk_enqueue",
    "bulk_enqueue_safe_async_task": "bulk_enqueue_safe",
    "enqueue_dispatch_async_tasks": "request_dispatch",
    'frappe.get_doc("Async Task Log", task_name)': "TaskLog.objects.get(pk=task_name)",
    # The functions of the other three.
    "import frappe": "import taskcontrol",
    "from frappe.utils.background_jobs": "from taskcontrol",
    "frappe.enqueue": "taskcontrol.enqueue",
    "frappe.enqueue_doc": "taskcontrol.enqueue_doc",
    "frappe.whitelist": "taskcontrol.whitelist",
    "doctype=": "document_type=",
    "bench worker": "taskcontrol worker",
    # Settings.
    "scheduler_events": "SCHEDULES",
    "before_job": "BEFORE_JOB",
    "after_job": "AFTER_JOB",
    '"workers"': '"QUEUES"',
    # What the documents use of their framework beside its jobs.
    "frappe.publish_realtime": "publish_realtime",
    "frappe.session.user": "current_user()",
    "frappe.log_error": "log",
    "frappe.log": "log",
    "frappe.msgprint": "msgprint",
    "frappe.db.sql": "sql",
    "frappe.db.commit()": "transaction.commit()",
    "frappe.utils.nowdate()": "timezone.now().date()",
    # The documents of the examples.
    '"Sales Invoice"': '"tests.Order"',
    '"Sales Order"': '"tests.Order"',
    '"My Doctype"': '"tests.Order"',
    "`tabBin`": "tests_counter",
    "actual_qty": "value",
    "item_code = %s": "name = %s",
    # The modules of the examples.
    "myapp.utils": "tests.seedapp",
    "myapp.tasks": "tests.seedapp",
    "my_app.tasks": "tests.seedapp",
    "myapp.api.sync_customer": "tests.seedapp.sync_customer",
    "myapp.api.process_item": "tests.seedapp.process_item",
    "myapp.api._coordinator": f"{HERE}._coordinator",
    "app.module.folder": HERE,
    "app.scheduled_tasks.update_database_usage": f"{HERE}.update_database_usage",
    "app.scheduled_tasks.manage_recurring_invoices": "tests.seedapp.scheduled",
    "app.scheduled_tasks.take_backups_daily": "tests.seedapp.scheduled",
    "app.scheduled_tasks.delete_all_barcodes_for_users": "tests.seedapp.scheduled",
    "app.scheduled_tasks.collect_error_snapshots": "tests.seedapp.scheduled",
    "myapp.jobs": HERE,
    "my_app.tasks._do_cleanup": f"{HERE}._do_cleanup",
    "edu_quality.api.student_application.get_and_schedule_pending_walkouts": (
        "tests.seedapp.scheduled"
    ),
    "edu_quality.overrides_hooks.item.upload_all_imported_to_drive": (
        "tests.seedapp.scheduled_too"
    ),
    "edu_quality.tasks.cron": "tests.seedapp.scheduled",
    "edu_quality.tasks.send_bulk_notification_cmap_to_guardian": "tests.seedapp.scheduled",
    "edu_quality.edu_quality.scheduled_tasks.assessment_pdf_scheduler": HERE,
    "edu_quality.tasks.schedule_birthday_greeting": "tests.seedapp.scheduled",
    "edu_quality.tasks.event_reminder": "tests.seedapp.scheduled_too",
    "edu_quality.cmap_jobs.send_ptm_notifications_to_students": "tests.seedapp.scheduled",
    "edu_quality.cmap_jobs.notify_teacher_before_one_hour_job": (
        "tests.seedapp.scheduled_too"
    ),
}

#: What stands in the documents and is not translated, and why.
NOT_TRANSLATED = {
    "execute_job": "is the inside of their worker and called by nobody, twice; what it says "
    "is tested: user, commit, value, five runs in place",
    "site=frappe.local.site": "one project is one site, so the parameter is left out",
    "frappe.get_doc({": "makes a row by the name of its model; here the model makes it",
    "frappe.new_doc": "the same; the Scheduler Event and the Scheduled Job Type are one call",
    "rq_job_failure_ttl": "and rq_results_ttl are seconds, and days of one setting here",
    "email_queue_batch_size": "is about the sending of e-mail and not about jobs",
    "class SalesOrder(Document)": "with a method for the worker stands in tests/models.py, "
    "where Django looks for models",
    "Poor man's lock": "breaks off there after its first line; taskcontrol.lock is the whole",
}


def here(text: str, **own: str) -> str:
    """Return a block in the names of this project; ``own``: more names, for it alone."""
    names = {**NAMES, **own}
    longest_first = sorted(names, key=len, reverse=True)
    wholly = [rf"{_begin(name)}{re.escape(name)}(?!\w)" for name in longest_first]
    text = textwrap.dedent(text).strip()
    return re.sub("|".join(wholly), lambda found: names[found[0]], text)


def _begin(name: str) -> str:
    """Keep a name from being found at the end of a longer one."""
    return r"(?<![\w.])" if name[0].isalpha() else ""


def run(text: str, **given: Any) -> dict[str, Any]:
    """Execute a block with ``given`` names, and return the names that it leaves."""
    names = {**globals(), **given}
    exec(compile(here(text), "<the document>", "exec"), names)
    return names


def define(text: str, **own: str) -> None:
    """Let this module hold what a block defines, so that the worker finds it."""
    exec(compile(here(text, **own), "<the document>", "exec"), globals())


#: The worker's settings and this process's: what the documents configure.
CONFIGURED = {
    "DOCUMENT_ACTIONS": ["tests.Order.*"],
    "QUEUES": {
        "myqueue": {"timeout": 5000, "background_workers": 4},
        "email_queue": {"timeout": 600},
        "data_import": {"timeout": 7200},
    },
}

HOOKS = {"BEFORE_JOB": [f"{HERE}.before_job_hook"], "AFTER_JOB": [f"{HERE}.after_job_hook"]}


@pytest.fixture(scope="module")
def _configured_worker(_workshop, django_db_blocker):
    with django_db_blocker.unblock():
        _workshop.close()  # it would take our tasks
        queues = ["short", "default", "long", *CONFIGURED["QUEUES"]]
        more = {**HOOKS, "DEDUPLICATE_BY_JOB_NAME": True}
        with Worker(queues, concurrency=3, conf={**CONFIGURED, **more}) as worker:
            yield worker


@pytest.fixture
def worker(workshop, _configured_worker):
    """One worker for all examples, with three slots for every queue."""
    return _configured_worker


@pytest.fixture(autouse=True)
def configured(conf):
    conf(**CONFIGURED)


@pytest.fixture
def orders(workshop):
    names = ("SINV-0042", "MY-001", "SO-001")
    return [Order.objects.create(name=name) for name in names]


def finished(task: Any) -> Any:
    """Return what a task returned, when it has finished."""
    now = ended(task)
    assert now.status == Status.FINISHED, now.error_message
    return now.result


SOURCE = Path(__file__).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*NAMES, *NOT_TRANSLATED])
def test_every_name_of_the_tables_stands_in_a_block(name):
    in_blocks = SOURCE.partition("# --- The first document")[2]

    assert name.strip('"') in in_blocks


# --- The first document: async tasks -------------------------------------------------------

define("""
    from tweaks.tweaks.doctype.async_task_log.async_task_log import (
        enqueue_async_task,
        enqueue_safe_async_task,
        bulk_enqueue_async_task,
        bulk_enqueue_safe_async_task,
    )
    from tweaks.tweaks.doctype.async_task_log.async_task_log_dispatch import (
        toggle_dispatcher,
        can_dispatch_now,
    )
""")

ENQUEUE = """
    task = enqueue_async_task(
        method=None,
        queue="default",
        timeout=300,
        job_name=None,
        document_type=None,
        document_name=None,
        document_action=None,
        max_retries=0,
        retry_delay=None,
        at_front=False,
        call_whitelisted_function=False,
        batch_id=None,
        batch_order=None,
        arguments=None,
        **kwargs,
    )
"""


def test_enqueue_async_task_with_all_its_parameters(worker):
    with pytest.raises(ValueError, match="method"):
        run(ENQUEUE, kwargs={})

    given = ENQUEUE.replace("method=None", 'method="myapp.utils.process_invoice"')
    task = run(given, kwargs={"invoice_name": "INV-001"})["task"]

    assert finished(task) == "processed INV-001"
    assert task.job_name == task.method == "tests.seedapp.process_invoice"


def test_enqueue_safe_async_task(worker):
    task = run("""
        task = enqueue_safe_async_task(
            "myapp.api.sync_customer",
            queue="short",
            customer_id="CUST-0001",
        )
    """)["task"]

    assert finished(task) == "synced CUST-0001"
    assert task.call_whitelisted_function
    with pytest.raises(PermissionError, match="whitelist"):
        taskcontrol.enqueue_safe("tests.seedapp.process_data")


def members(batch_id):
    return list(TaskLog.objects.filter(batch_id=batch_id).order_by("batch_order"))


def test_bulk_enqueue_async_task(worker):
    batch_id = run("""
        tasks = bulk_enqueue_async_task(
            tasks=[
                {"method": "myapp.utils.process_invoice", "invoice_name": "INV-001"},
                {"method": "myapp.utils.process_invoice", "invoice_name": "INV-002", "at_front": True},
            ],
            batch_id="my-import-run-abc",
            queue="short",
        )
    """)["tasks"]

    assert batch_id == "my-import-run-abc"
    first, second = all_ended(members(batch_id))
    assert [first.result, second.result] == ["processed INV-001", "processed INV-002"]
    assert [first.batch_order, second.batch_order] == [0, 1]
    assert [first.at_front, second.at_front] == [False, True]
    assert {first.queue, second.queue} == {"short"}
    assert batches.progress(batch_id)["done"] == batches.progress(batch_id)["total"] == 2


def test_bulk_enqueue_safe_async_task(worker):
    batch_id = run("""
        tasks = bulk_enqueue_safe_async_task(
            tasks=[
                {"method": "myapp.api.sync_customer", "customer_id": "CUST-0001"},
                {"method": "myapp.api.sync_customer", "customer_id": "CUST-0002"},
            ],
            queue="short",
        )
    """)["tasks"]

    both = all_ended(members(batch_id))
    assert [task.result for task in both] == ["synced CUST-0001", "synced CUST-0002"]
    assert all(task.call_whitelisted_function for task in both)


def test_passing_a_callable(worker):
    task = run("""
        from myapp.utils import process_invoice

        task = enqueue_async_task(process_invoice, invoice_name="INV-001")
    """)["task"]

    assert finished(task) == "processed INV-001"


def test_document_action_shorthand(worker, orders):
    task = run("""
        task = enqueue_async_task(
            document_type="Sales Invoice",
            document_name="SINV-0042",
            document_action="submit",
            queue="long",
        )
    """)["task"]

    assert finished(task) == "submitted SINV-0042"  # by _submit
    assert Order.objects.get(name="SINV-0042").state == "submitted"
    assert (task.method, task.timeout) == ("tests.Order.submit", 1500)


def test_document_action_with_arguments(worker, orders):
    task = run("""
        task = enqueue_async_task(
            document_type="My Doctype",
            document_name="MY-001",
            document_action="my_custom_method",
            some_arg="value",
        )
    """)["task"]

    assert finished(task) == "MY-001 got value"


ASYNC_TASK_TYPE = """
    frappe.get_doc({
        "doctype": "Async Task Type",
        "method": "myapp.utils.heavy_import",
        "priority": 10,
        "concurrency_limit": 2,
        "is_standard": 1,
    }).insert(ignore_if_duplicate=True)
"""
#: A document is made by its model here.
AS_MODEL = {
    "frappe.get_doc({": "TaskType.objects.bulk_create([TaskType(**{",
    '"doctype": "Async Task Type",': "",
    "}).insert(ignore_if_duplicate=True)": "})], ignore_conflicts=True)",
}


def test_async_task_type(worker, record):
    code = here(ASYNC_TASK_TYPE, **AS_MODEL)
    exec(code)
    exec(code)  # a second time changes nothing

    many = [taskcontrol.enqueue("tests.seedapp.heavy_import") for _ in range(4)]

    all_ended(many)
    assert record.most_at_once(tag="heavy") == 2
    assert TaskType.objects.get(method="tests.seedapp.heavy_import").priority == 10


STATUS_LIFECYCLE = """
    Pending → Queued → Started → Finished
                               ↘ Failed ──(auto-retry)──→ Pending
             ↘ Canceled (from Pending, Queued, or Started)
"""


def test_status_lifecycle():
    words = re.findall(r"[A-Z]\w+", STATUS_LIFECYCLE)
    assert set(words) | {"Paused"} == set(Status.values)
    road = [("Pending", "Queued"), ("Queued", "Started"), ("Started", "Finished")]
    end = [("Started", "Failed"), ("Failed", "Pending")]
    canceled = [(old, "Canceled") for old in ("Pending", "Queued", "Started")]
    for old, new in [*road, *end, *canceled]:
        assert Status(new) in MOVES[Status(old)]


def test_notify_status(workshop, news):
    task = taskcontrol.enqueue("tests.seedapp.process_data", paused=True)

    run('task.notify_status(message="Processing row 42 of 100...")', task=task)

    assert [one.message for one in news] == ["Processing row 42 of 100..."]


define(
    """
    from tweaks.tweaks.doctype.async_task_log.async_task_log import notify_task_status

    def my_long_running_job(items):
        for i, item in enumerate(items):
            process(item)
            notify_task_status(message=f"Processed {i + 1} of {len(items)}")
    """,
    my_long_running_job="my_job_with_texts",
)


def test_notify_task_status_with_a_text(worker, record):
    task = taskcontrol.enqueue(f"{HERE}.my_job_with_texts", items=["a", "b", "c"])

    assert finished(task) is None
    assert row(task).progress == {"message": "Processed 3 of 3"}
    assert [line["item"] for line in record.lines("processed")] == ["a", "b", "c"]


def test_structured_progress_messages_are_no_error_outside_of_a_task():
    run(
        """
        notify_task_status(message={
            "progress": {
                "count": i + 1,
                "total": len(items),
                "description": f"Processing item {i + 1} of {len(items)}…",
            }
        })
        """,
        i=0,
        items=["a"],
    )


def test_what_the_javascript_examples_show_is_known_to_the_server(workshop, news):
    """They run in ``tests/live/test_seed_javascript.py``; receivers know each field too."""
    batch_id = taskcontrol.bulk_enqueue([{"method": "tests.seedapp.process_data"}])
    (task,) = members(batch_id)
    task.cancel("enough")

    (one,) = news
    done = batches.progress(batch_id)
    event = {
        "name": task.name,
        "job_name": task.job_name,
        "status": one.new,
        "message": one.message,
        "error": one.error,
        "batch_id": task.batch_id,
        "batch_done": done["done"],
        "batch_total": done["total"],
    }
    fields = re.search(r"\(\{ (.+?) \}\)", BLOCKS["async_task_status"])
    assert fields
    assert list(event) == fields[1].split(", ")
    assert event["status"] == "Canceled"
    assert event["batch_done"] == event["batch_total"] == 1


define(
    """
    from tweaks.tweaks.doctype.async_task_log.async_task_log import notify_task_status

    def my_long_running_job(items):
        for i, item in enumerate(items):
            process(item)
            notify_task_status(message={
                "progress": {
                    "count": i + 1,
                    "total": len(items),
                    "description": f"Processing item {i + 1} of {len(items)}…",
                }
            })
    """,
    my_long_running_job="my_job_with_numbers",
)


def test_notify_task_status_with_numbers(worker):
    task = taskcontrol.enqueue(f"{HERE}.my_job_with_numbers", items=["a", "b", "c"])

    assert finished(task) is None
    assert row(task).progress == {
        "count": 3,
        "total": 3,
        "description": "Processing item 3 of 3…",
    }


define("""
    import uuid

    from tweaks.tweaks.doctype.async_task_log.async_task_log import (
        enqueue_async_task,
        bulk_enqueue_async_task,
        notify_task_status,
    )

    @frappe.whitelist()
    def bulk_create(items):
        batch_id = str(uuid.uuid4())
        coordinator = enqueue_async_task(
            "myapp.api._coordinator",
            queue="short",
            job_name="Bulk Create",
            arguments={"items": items, "batch_id": batch_id},
        )
        return {"batch_id": batch_id, "coordinator_task_name": coordinator.name}

    def _coordinator(items, batch_id):
        notify_task_status(message=f"Resolved {len(items)} items. Enqueueing…")
        tasks = [{"method": "myapp.api.process_item", "batch_id": batch_id, "arguments": {"item": i}} for i in items]
        bulk_enqueue_async_task(tasks, batch_id=batch_id)
""")


def test_server_side_coordinator_pattern(worker):
    answer = globals()["bulk_create"](["a", "b", "c"])

    coordinator = TaskLog.objects.get(pk=answer["coordinator_task_name"])
    assert ended(coordinator).progress == {"message": "Resolved 3 items. Enqueueing…"}
    tasks = all_ended(members(answer["batch_id"]))
    assert [task.result for task in tasks] == ["processed a", "processed b", "processed c"]
    assert batches.progress(answer["batch_id"])["done"] == 3


def test_cancellation(worker):
    task_name = taskcontrol.enqueue(sample_tasks.sleep, seconds=60).name
    eventually(lambda: row(int(task_name)).status == Status.STARTED)

    run(
        """
        task = frappe.get_doc("Async Task Log", task_name)
        task.cancel()
        """,
        task_name=task_name,
    )

    assert row(int(task_name)).status == Status.CANCELED
    free(row(int(task_name)))


def test_manual_retry(worker):
    task_name = ended(taskcontrol.enqueue(seedapp.sync_customer, customer_id="nobody")).name

    run(
        """
        task = frappe.get_doc("Async Task Log", task_name)
        task.retry()
        """,
        task_name=task_name,
    )

    failed = ended(row(int(task_name)))
    assert (failed.status, failed.retry_count, failed.attempt) == (Status.FAILED, 1, 2)
    run(
        """
        task = frappe.get_doc("Async Task Log", task_name)
        task.retry(now=True)
        """,
        task_name=task_name,
    )
    assert ended(row(int(task_name))).attempt == 3


def test_retry_raises_on_a_task_that_neither_failed_nor_was_canceled(worker):
    task = taskcontrol.enqueue("tests.seedapp.process_data")
    finished(task)

    with pytest.raises(InvalidTransition):
        row(task).retry()


AUTOMATIC_RETRY = """
    task = enqueue_async_task(
        "myapp.utils.sync_customer",
        max_retries=3,
        retry_delay=60,
        customer_id="CUST-001",
    )
"""


def test_automatic_retry(worker):
    assert finished(run(AUTOMATIC_RETRY)["task"]) == "synced CUST-001"
    failing = run(AUTOMATIC_RETRY.replace("CUST-001", "nobody"))["task"]

    eventually(lambda: row(failing).status == Status.FAILED)

    failed = row(failing)
    assert not failed.ended
    assert failed.retry_at is not None
    assert (failed.retry_at - failed.ended_at).total_seconds() == pytest.approx(
        60, abs=0.01
    )


def test_toggle_dispatcher(workshop):
    run("""
        from tweaks.tweaks.doctype.async_task_log.async_task_log_dispatch import toggle_dispatcher
        toggle_dispatcher(enable=False)
    """)
    assert not taskcontrol.can_dispatch_now()

    run("toggle_dispatcher(enable=True)")
    assert taskcontrol.can_dispatch_now()


OVER_HTTP = """
    POST /api/method/tweaks.tweaks.doctype.async_task_log.async_task_log_dispatch.toggle_dispatcher
    { "enable": 1 } // or 0
"""


def test_toggle_dispatcher_over_http(workshop):
    """The address is ours, what is sent is theirs."""
    says = json.loads(OVER_HTTP.strip().splitlines()[1].partition("//")[0])
    address = reverse("taskcontrol:toggle_dispatcher")
    browser = Client()
    for permissions, answer in (((), 403), (("control_dispatcher",), 200)):
        browser.force_login(make_user("", *permissions))

        said = browser.post(address, {**says, "enable": 0}, content_type="application/json")

        assert said.status_code == answer
    assert not taskcontrol.can_dispatch_now()
    browser.post(address, says, content_type="application/json")
    assert taskcontrol.can_dispatch_now()


def test_can_dispatch_now(worker):
    run("""
        from tweaks.tweaks.doctype.async_task_log.async_task_log_dispatch import can_dispatch_now
        from tweaks.tweaks.doctype.async_task_log.async_task_log_dispatch import enqueue_dispatch_async_tasks

        if can_dispatch_now():
            enqueue_dispatch_async_tasks()
    """)


# --- The second document: the user guide of background jobs --------------------------------

define("""
    def long_running_job(param1, param2):
        # expensive tasks
        pass
""")


def test_the_function_or_its_path(worker):
    jobs = run("""
        # directly pass the function
        one = frappe.enqueue(long_running_job, queue='short', param1='A', param2='B')

        # or pass the full module path as string
        two = frappe.enqueue('app.module.folder.long_running_job', queue='short', param1='A', param2='B')
    """)

    first, second = all_ended([jobs["one"], jobs["two"]])
    assert first.method == second.method == f"{HERE}.long_running_job"
    assert first.status == second.status == Status.FINISHED


def test_all_possible_arguments_of_enqueue(worker):
    task = run(
        """
        task = frappe.enqueue(
            method, # python function or a module path as string
            queue="default", # one of short, default, long
            timeout=None, # pass timeout manually
            is_async=True, # if this is True, method is run in worker
            now=False, # if this is True, method is run directly (not in a worker)
            job_name=None, # specify a job name
            enqueue_after_commit=False, # enqueue the job after the database commit is done at the end of the request
            at_front=False, # put the job at the front of the queue
            track_job=False, # tracks some metadata in `Background Task` doctype
            **kwargs, # kwargs are passed to the method as arguments
        )
        """,
        method="tests.seedapp.my_function",
        kwargs={"color": "red"},
    )["task"]

    assert finished(task) == {"color": "red"}


def test_enqueue_doc(worker, orders):
    task = run(
        """
        task = frappe.enqueue_doc(
            doctype,
            name,
            "do_something", # name of the controller method
            queue="long",
            timeout=4000,
            param="value"
        )
        """,
        doctype="tests.Order",
        name="SO-001",
    )["task"]

    assert finished(task) == "SO-001 does value"
    assert (task.queue, task.timeout) == ("long", 4000)


CUSTOM_QUEUES = """
    {
        "workers": {
            "myqueue": {
                "timeout": 5000, # queue timeout
                "background_workers": 4, # number of workers for this queue
            }
        }
    }
"""


def test_custom_queues(worker):
    configuration = ast.literal_eval(here(CUSTOM_QUEUES))
    assert configuration["QUEUES"].items() <= CONFIGURED["QUEUES"].items()

    task = taskcontrol.enqueue("tests.seedapp.process_data", queue="myqueue")

    assert finished(task) == "processed"
    assert task.timeout == 5000


WORKERS = """
    bench worker --queue short
    bench worker --queue default
    bench worker --queue long
"""
WORKERS_OF_SEVERAL_QUEUES = """
    bench worker --queue short,default
    bench worker --queue long
"""
BURST = "bench worker --queue short --burst"


def lines_of(*blocks: str) -> list[str]:
    """Return the commands of blocks, without their comments."""
    lines = [line.strip() for block in blocks for line in here(block).splitlines()]
    return [line for line in lines if not line.startswith("#")]


def options_of(line: str) -> dict[str, Any]:
    """Return what ``manage.py`` understands of a command."""
    program, *arguments = line.split()
    command = load_command_class("taskcontrol", program)
    return vars(command.create_parser("manage.py", program).parse_args(arguments))


def test_workers():
    assert [options_of(line)["queue"] for line in lines_of(WORKERS)] == [
        "short",
        "default",
        "long",
    ]


@pytest.mark.integration
@pytest.mark.usefixtures("start_worker")  # ends the shared one, which serves every queue
def test_multi_queue_consumption(workshop):
    several, long = lines_of(WORKERS_OF_SEVERAL_QUEUES)
    assert options_of(long)["queue"] == "long"
    named = [
        taskcontrol.enqueue("tests.seedapp.process_data", queue=queue)
        for queue in ("short", "default", "long")
    ]

    run_to_its_end(f"{several} --burst")

    statuses = [taskcontrol.get_job_status(task) for task in named]
    assert statuses == ["Finished", "Finished", "Pending"]


def run_to_its_end(line: str) -> None:
    """Run a command as a shell would, with ``manage.py`` in front."""
    given = {"TASKCONTROL_TEST_CONF": json.dumps({**QUICK, **CONFIGURED})}
    shell = Process(
        [sys.executable, "-m", "django", *line.split(), "--name", "burst@lab"],
        log=LAB / "burst.log",
        env={**site_environment(), **given},
    )
    shell.start()
    try:
        eventually(lambda: not shell.running, timeout=60, why=shell.tail)
        assert shell.wait() == 0, shell.tail()
    finally:
        shell.kill()


def test_burst_mode(workshop):
    task = taskcontrol.enqueue("tests.seedapp.process_data", queue="short")

    run_to_its_end(here(BURST))

    assert finished(task) == "processed"


SCHEDULER_EVENTS = """
    scheduler_events = {
        "hourly": [
            # will run hourly
            "app.scheduled_tasks.update_database_usage"
        ],
    }
"""

define("""
    def update_database_usage():
        pass
""")


def declared(conf, text):
    """Let a block declare the schedules of the settings; return them by timetable."""
    conf(**CONFIGURED, SCHEDULES=run(text)["SCHEDULES"])
    sync_schedules()
    return sorted((one.timetable, one.name) for one in Schedule.objects.all())


def test_scheduler_events(worker, conf):
    name = f"{HERE}.update_database_usage"

    assert declared(conf, SCHEDULER_EVENTS) == [("0 * * * * (UTC)", f"{name} (hourly)")]

    task = taskcontrol.schedules.run(f"{name} (hourly)")
    assert ended(task).status == Status.FINISHED
    assert task.method == name


def test_daily_long_and_cron_events(workshop, conf):
    text = """
        scheduler_events = {
            "daily": [
                "app.scheduled_tasks.manage_recurring_invoices"
            ],
            "daily_long": [
                "app.scheduled_tasks.take_backups_daily"
            ],
            "cron": {
                "15 18 * * *": [
                    "app.scheduled_tasks.delete_all_barcodes_for_users"
                ],
                "*/6 * * * *": [
                    "app.scheduled_tasks.collect_error_snapshots"
                ],
                "annual": [
                    "app.scheduled_tasks.collect_error_snapshots"
                ]
            }
        }
    """

    assert declared(conf, text) == [
        ("*/6 * * * * (UTC)", "tests.seedapp.scheduled (*/6 * * * *)"),
        ("0 0 * * * (UTC)", "tests.seedapp.scheduled (daily)"),
        ("0 0 * * * (UTC)", "tests.seedapp.scheduled (daily_long)"),
        ("0 0 1 1 * (UTC)", "tests.seedapp.scheduled (yearly)"),
        ("15 18 * * * (UTC)", "tests.seedapp.scheduled (15 18 * * *)"),
    ]
    long = taskcontrol.schedules.run("tests.seedapp.scheduled (daily_long)")
    assert (long.queue, long.timeout) == ("long", 1500)


SCHEDULER_EVENT = """
    # Create `Scheduler Event` record
    sch_eve = frappe.new_doc("Scheduler Event")
    sch_eve.scheduled_against = "Process Payment Reconciliation"
    sch_eve.save()

    # Create `Scheduled Job Type`
    job = frappe.new_doc("Scheduled Job Type")
    job.frequency = "Cron"
    job.scheduler_event = sch_eve.name
    job.cron_format = "0/5 * * * *" # runs every five minutes
    job.save()
"""


def test_configurable_scheduler_events(worker, conf):
    """The two records are one call here, which names what it runs."""
    said = dict(re.findall(r'(\w+) = "([^"]+)"', SCHEDULER_EVENT))

    schedule = taskcontrol.schedules.create(
        "tests.seedapp.scheduled",
        cron=said["cron_format"],
        scheduled_against=said["scheduled_against"],
    )

    assert schedule.timetable == "0-59/5 * * * * (UTC)"
    task = taskcontrol.schedules.run(schedule)
    assert finished(task) == "scheduled"
    assert task.event == "Process Payment Reconciliation"


# --- The third document: background jobs ---------------------------------------------------


def test_enqueuing_jobs(worker):
    jobs = run("""
        import frappe
        # Enqueue a simple function
        one = frappe.enqueue(
            "myapp.tasks.process_data",
            queue="default",
            timeout=300,
            is_async=True
        )
        # Enqueue with arguments
        two = frappe.enqueue(
            "myapp.tasks.send_emails",
            queue="default",
            users=["user1@example.com", "user2@example.com"],
            message="Hello!"
        )
    """)

    assert finished(jobs["one"]) == "processed"
    assert finished(jobs["two"]) == [
        "user1@example.com: Hello!",
        "user2@example.com: Hello!",
    ]


def test_queue_types(worker):
    task = run("""
        # Use long queue for time-consuming tasks
        task = frappe.enqueue(
            "myapp.tasks.generate_report",
            queue="long",
            timeout=3600 # 1 hour
        )
    """)["task"]

    assert finished(task) == "report"
    assert (task.queue, task.timeout) == ("long", 3600)
    timeouts = {name: queue["timeout"] for name, queue in known_queues().items()}
    assert {"short": 300, "default": 300, "long": 1500}.items() <= timeouts.items()


define('''
    def on_success_callback(job):
        """Called when job completes successfully"""
        frappe.publish_realtime(
            "job_complete",
            {"job_id": job.id, "status": "success"},
            user=frappe.session.user
        )

    def on_failure_callback(job, exc_type, exc_value, traceback):
        """Called when job fails"""
        frappe.log_error(f"Job {job.id} failed: {exc_value}")
''')


def test_enqueue_parameters(worker, record):
    task = run(
        """
        task = frappe.enqueue(
            method="myapp.tasks.my_function",
            queue="default",
            timeout=300,
            event=None,
            is_async=True,
            job_name=None,
            now=False,
            enqueue_after_commit=False,
            on_success=callback_on_success,
            on_failure=callback_on_failure,
            at_front=False,
            job_id="unique-job-id",
            deduplicate=False,
            **kwargs
        )
        """,
        callback_on_success=f"{HERE}.on_success_callback",
        callback_on_failure=f"{HERE}.on_failure_callback",
        kwargs={"color": "red"},
    )["task"]

    assert finished(task) == {"color": "red"}
    eventually(lambda: record.lines("job_complete", job_id=task.pk, status="success"))
    assert taskcontrol.get_job("unique-job-id") == task


def test_enqueue_after_commit(worker):
    names = run("""
        import frappe

        class SalesOrder(Document):
            def on_submit(self):
                # Only send email if submit is successful
                frappe.enqueue(
                    "myapp.tasks.send_order_confirmation",
                    enqueue_after_commit=True,
                    order_id=self.name
                )
    """)

    with transaction.atomic():
        names["SalesOrder"]("SO-7").submit()
    with transaction.atomic():
        names["SalesOrder"]("SO-8").submit()
        transaction.set_rollback(True)

    assert finished(TaskLog.objects.get()) == "confirmed SO-7 (draft)"


def test_job_deduplication(workshop, record):
    again = """
        import frappe
        # Use job_id for deduplication
        task = frappe.enqueue(
            "myapp.tasks.sync_data",
            job_id="sync-customer-data",
            deduplicate=True,
            customer="CUST-001"
        )
        # Check if job is already enqueued
        from frappe.utils.background_jobs import is_job_enqueued
        if is_job_enqueued("sync-customer-data"):
            frappe.msgprint("Sync already in progress")
    """

    workshop.close()  # nobody ends the first before the second
    first, second = run(again)["task"], run(again)["task"]

    assert first.status == Status.PENDING
    assert second is None
    assert len(record.lines("shown", text="Sync already in progress")) == 2


def test_enqueue_document_method(worker, orders):
    task = run("""
        import frappe
        # Enqueue document method
        task = frappe.enqueue_doc(
            doctype="Sales Order",
            name="SO-001",
            method="create_delivery_note",
            queue="default",
            timeout=300
        )
    """)["task"]

    assert finished(task) is None
    assert Order.objects.filter(name="Delivery Note").exists()


CONTROLLER = '''
    class SalesOrder(Document):
        def create_delivery_note(self):
            """This method will be executed in background"""
            delivery_note = frappe.new_doc("Delivery Note")
            # ... create delivery note
            delivery_note.insert()
'''


def test_the_method_of_the_model_is_that_of_the_document():
    """A model stands in models.py, where every process finds it."""
    text = here(
        CONTROLLER,
        **{
            "frappe.new_doc": "Order",
            '"Delivery Note"': 'name="Delivery Note"',
            ".insert()": ".save()",
        },
    )
    _, _, document = ast.unparse(ast.parse(text)).partition("create_delivery_note(self):\n")

    assert document
    assert document in ast.unparse(ast.parse(inspect.getsource(Order)))


CALLBACKS = """
    import frappe

    task = frappe.enqueue(
        "myapp.tasks.process_data",
        on_success=on_success_callback,
        on_failure=on_failure_callback
    )
"""


def test_job_callbacks(worker, record):
    with acting_as(make_user("ann")):
        ok = run(CALLBACKS)["task"]
        failing = run(CALLBACKS.replace("myapp.tasks.process_data", "tests.tasks.fail"))[
            "task"
        ]

    eventually(lambda: record.lines("job_complete", job_id=ok.pk, user="ann"))
    eventually(lambda: record.lines("log", text=f"Job {failing.pk} failed: it failed"))


PRIORITY = """
    import frappe
    # High priority job
    urgent = frappe.enqueue(
        "myapp.tasks.urgent_task",
        at_front=True
    )
    # Auto-prioritize when queue is starved
    interactive = frappe.enqueue(
        "myapp.tasks.interactive_task",
        at_front_when_starved=True
    )
"""


def test_queue_priority(worker):
    jobs = run(PRIORITY)

    assert finished(jobs["urgent"]) == "urgent"
    assert finished(jobs["interactive"]) == "interactive"
    assert [jobs["urgent"].at_front, jobs["interactive"].at_front] == [True, False]


def test_a_queue_is_starved_when_more_than_sixteen_wait(workshop):
    for _ in range(17):
        make_task()

    assert run(PRIORITY)["interactive"].at_front


EXECUTE_JOB = '''
    def execute_job(site, method, event, job_name, kwargs, user=None, is_async=True, retry=0):
        """Execute job in worker, handle commit/rollback"""
        retval = None
        if is_async:
            frappe.init(site, force=True)
            frappe.connect()
            if user:
                frappe.set_user(user)
        # Call method with arguments
        method_fn = frappe.get_attr(method)
        retval = method_fn(**kwargs)
        # Commit transaction
        frappe.db.commit()
        return retval
'''


def test_what_job_execution_says(worker):
    """The user, the arguments, the commit and the value that it returns."""
    Counter.objects.create(name="hits")
    whoami = taskcontrol.enqueue(sample_tasks.whoami, created_by=make_user("ann"))
    raised = taskcontrol.enqueue(sample_tasks.raise_counter, arguments={"name": "hits"})

    assert finished(whoami) == "ann"
    assert finished(raised) is None
    assert Counter.objects.get(name="hits").value == 1


STARTING_WORKERS = """
    # Start single worker
    bench worker --queue default
    # Start worker for specific queues
    bench worker --queue default,short,long
    # Start worker pool with multiple workers
    bench worker --queue default --num-workers 4
    # Start worker in burst mode (exits after processing all jobs)
    bench worker --queue default --burst
"""


def test_starting_workers():
    single, several, pool, burst = lines_of(STARTING_WORKERS)

    assert options_of(single)["queue"] == "default"
    assert options_of(several)["queue"] == "default,short,long"
    assert options_of(pool)["num_workers"] == 4
    assert options_of(burst)["burst"]


CUSTOM_WORKER_QUEUES = """
    # In common_site_config.json
    {
        "workers": {
            "email_queue": {
                "timeout": 600
            },
            "data_import": {
                "timeout": 7200
            }
        }
    }
"""


def test_custom_worker_queues(worker):
    configuration = ast.literal_eval(here(CUSTOM_WORKER_QUEUES))
    assert configuration["QUEUES"].items() <= CONFIGURED["QUEUES"].items()

    task = run("""
        task = frappe.enqueue(
            "myapp.tasks.import_data",
            queue="data_import",
            file_path="/path/to/data.csv"
        )
    """)["task"]

    assert finished(task) == "imported /path/to/data.csv"
    assert task.timeout == 7200


JOB_MONITORING = """
    import frappe
    from frappe.utils.background_jobs import get_jobs, get_workers
    # Get all jobs in a queue
    jobs = get_jobs(site=frappe.local.site, queue="default")
    # Get all active workers
    workers = get_workers()
    # Get job by ID
    from frappe.utils.background_jobs import get_job, get_job_status
    job = get_job("my-job-id")
    status = get_job_status("my-job-id")
"""


def test_job_monitoring(worker):
    waiting = taskcontrol.enqueue(
        "tests.seedapp.process_data", job_id="my-job-id", paused=True
    )

    told = run(JOB_MONITORING.replace("site=frappe.local.site, ", ""))

    assert list(told["jobs"]) == [waiting]
    assert [one.name for one in told["workers"]] == [worker.hostname]
    assert (told["job"], told["status"]) == (waiting, "Paused")


RETRY_FAILED_JOBS = """
    def execute_job(site, method, event, job_name, kwargs, retry=0):
        try:
            retval = method(**kwargs)
        except (frappe.db.InternalError, frappe.RetryBackgroundJobError) as e:
            frappe.db.rollback()
            if retry < 5:
                # Retry job with exponential backoff
                time.sleep(retry + 1)
                return execute_job(site, method, event, job_name, kwargs, retry=retry + 1)
            else:
                frappe.log_error(title=method_name)
                raise
"""


def ask_once() -> int:
    """Ask to be run again in place, the first time: frappe.RetryBackgroundJobError."""
    if Counter.objects.filter(name="asked", value=0).update(value=1):
        raise taskcontrol.Retry
    return 1


def test_what_the_retry_of_failed_jobs_says(worker):
    """It runs again in place after a second; tests/test_reruns.py has all five times."""
    Counter.objects.create(name="asked")

    task = taskcontrol.enqueue(ask_once)

    assert finished(task) == 1
    assert (row(task).attempt, row(task).retry_count) == (1, 0)


JOB_HOOKS = """
    # In hooks.py
    before_job = [
        "myapp.jobs.before_job_hook"
    ]
    after_job = [
        "myapp.jobs.after_job_hook"
    ]
"""

define('''
    # Hook functions
    def before_job_hook(method, kwargs, transaction_type):
        """Called before job executes"""
        frappe.log(f"Starting job: {method}")

    def after_job_hook(method, kwargs, result):
        """Called after job completes"""
        frappe.log(f"Job completed: {method}")
''')


def test_job_hooks(worker, record):
    """The worker of this module has them in its settings."""
    hooks = run(JOB_HOOKS)
    assert hooks["BEFORE_JOB"] == HOOKS["BEFORE_JOB"]
    assert hooks["AFTER_JOB"] == HOOKS["AFTER_JOB"]

    task = taskcontrol.enqueue("tests.tasks.fail")

    ended(task)
    eventually(lambda: record.lines("log", text="Job completed: tests.tasks.fail"))
    assert record.lines("log", text="Starting job: tests.tasks.fail", task=task.pk)


QUEUE_CONFIGURATION = """
    # In common_site_config.json
    {
        "rq_job_failure_ttl": 604800, # Keep failed jobs for 7 days
        "rq_results_ttl": 600, # Keep results for 10 minutes
        "rq_failed_jobs_limit": 1000, # Maximum failed jobs to keep
        "email_queue_batch_size": 500, # Emails to process per batch
        "max_queued_jobs": 500 # Maximum jobs in queue
    }
"""


def test_queue_configuration(workshop, conf):
    """The two times are days of one setting here."""
    said = ast.literal_eval(here(QUEUE_CONFIGURATION))
    conf(
        RETENTION_DAYS={
            "Failed": said["rq_job_failure_ttl"] / 86400,
            "Finished": said["rq_results_ttl"] / 86400,
        },
        FAILED_LIMIT_PER_TYPE=said["rq_failed_jobs_limit"],
        MAX_QUEUED_JOBS=said["max_queued_jobs"],
    )
    kept = [
        make_task(Status.FAILED, ended_at=seconds_ago(604_000)),
        make_task(Status.FINISHED, ended_at=seconds_ago(500)),
    ]
    make_task(Status.FAILED, ended_at=seconds_ago(605_000))
    make_task(Status.FINISHED, ended_at=seconds_ago(700))

    pruning.prune_ended_tasks()

    assert list(TaskLog.objects.order_by("pk")) == kept
    many = ({"method": "tests.seedapp.process_data"} for _ in range(501))
    with pytest.raises(QueueOverloaded):
        taskcontrol.bulk_enqueue(many)
    assert TaskLog.objects.count() == 2


# --- The fourth document: scheduler and jobs in production ---------------------------------


def test_queue_selection(worker):
    jobs = run("""
        one = frappe.enqueue("my_app.tasks.send_one_email", queue="short", recipient="[email protected]")
        two = frappe.enqueue("my_app.tasks.process_invoice", queue="default", invoice="SINV-001")
        three = frappe.enqueue("my_app.tasks.monthly_aging_report", queue="long")
    """)

    assert [finished(jobs[name]) for name in ("one", "two", "three")] == [
        "sent to [email protected]",
        "processed SINV-001",
        "aged",
    ]


def test_an_explicit_timeout(worker):
    task = run("""
        task = frappe.enqueue(
            "my_app.tasks.process_invoice",
            queue="default",
            timeout=180,
            invoice="SINV-001",
        )
    """)["task"]

    assert finished(task) == "processed SINV-001"
    assert task.timeout == 180


NOW_AFTER_COMMIT_ASYNC = """
    task = frappe.enqueue(method, queue="default", now=False, enqueue_after_commit=False, is_async=True, **kwargs)
"""


def test_now_after_commit_and_async(worker):
    given = {"method": "tests.seedapp.my_function", "kwargs": {"color": "red"}}

    assert finished(run(NOW_AFTER_COMMIT_ASYNC, **given)["task"]) == {"color": "red"}


@pytest.mark.parametrize(
    ("old", "new"), [("now=False", "now=True"), ("is_async=True", "is_async=False")]
)
def test_now_and_not_async_run_in_this_process(workshop, old, new):
    given = {"method": "tests.seedapp.my_function", "kwargs": {"color": "red"}}

    task = run(NOW_AFTER_COMMIT_ASYNC.replace(old, new), **given)["task"]

    assert (task.status, task.result) == (Status.FINISHED, {"color": "red"})


def test_the_rule_of_enqueue_after_commit(worker):
    names = run("""
        class SalesInvoice(Document):
            def on_submit(self):
                # Worker needs to see the submitted invoice — wait for commit
                frappe.enqueue(
                    "my_app.tasks.send_invoice_email",
                    queue="short",
                    timeout=60,
                    enqueue_after_commit=True,
                    invoice_name=self.name,
                )
    """)

    with transaction.atomic():
        names["SalesInvoice"]("SINV-9").submit()

    assert finished(TaskLog.objects.get()) == "sent SINV-9 (draft)"


CRON_EVENTS = """
    # hooks.py — pattern from edu_quality
    scheduler_events = {
        "all": [
            "edu_quality.api.student_application.get_and_schedule_pending_walkouts",
            "edu_quality.overrides_hooks.item.upload_all_imported_to_drive",
        ],
        "cron": {
            "0 * * * *":    ["edu_quality.tasks.cron"],
            "0 19 * * *":   ["edu_quality.tasks.send_bulk_notification_cmap_to_guardian"],
            "0 1 * * *":    ["edu_quality.edu_quality.scheduled_tasks.assessment_pdf_scheduler.attach_daily_assessment_pdfs"],
            "0 6 * * *":    [
                "edu_quality.tasks.schedule_birthday_greeting",
                "edu_quality.tasks.event_reminder",
            ],
            "* * * * *":    [
                "edu_quality.cmap_jobs.send_ptm_notifications_to_students",
                "edu_quality.cmap_jobs.notify_teacher_before_one_hour_job",
            ],
        },
    }
"""


def test_cron_expressions_in_scheduler_events(workshop, conf):
    one, two = "tests.seedapp.scheduled", "tests.seedapp.scheduled_too"

    assert declared(conf, CRON_EVENTS) == [
        ("* * * * * (UTC)", f"{one} (* * * * *)"),
        ("* * * * * (UTC)", f"{two} (* * * * *)"),
        ("0 * * * * (UTC)", f"{one} (0 * * * *)"),
        ("0 1 * * * (UTC)", f"{HERE}.attach_daily_assessment_pdfs (0 1 * * *)"),
        ("0 19 * * * (UTC)", f"{one} (0 19 * * *)"),
        ("0 6 * * * (UTC)", f"{one} (0 6 * * *)"),
        ("0 6 * * * (UTC)", f"{two} (0 6 * * *)"),
        ("every 240 s", f"{one} (all)"),
        ("every 240 s", f"{two} (all)"),
    ]


#: They stand twice in the document.
COMMON_PATTERNS = """
    | `*/15 * * * *` | Every 15 minutes |
    | `0 * * * *` | Top of every hour |
    | `0 9 * * 1-5` | 9 AM Monday–Friday |
    | `0 0 * * 0` | Midnight Sunday |
    | `0 0 1 * *` | Midnight on the 1st of every month |
    | `*/30 9-17 * * 1-5` | Every 30 minutes, 9 AM–5 PM, weekdays |
"""  # noqa: RUF001


@pytest.mark.parametrize("expression", re.findall("`(.+)`", COMMON_PATTERNS))
def test_common_patterns(workshop, expression):
    """The next runs of each stand in tests/test_cron.py."""
    schedule = taskcontrol.schedules.create("tests.seedapp.scheduled", cron=expression)

    assert schedule.timetable == f"{expression} (UTC)"
    assert expression in SEEDS


define('''
    def attach_daily_assessment_pdfs():
        """Scheduler entry point — fast handoff."""
        frappe.enqueue(
            _process_daily_assessment_pdfs,
            queue="long",
            timeout=3600,  # 1 hour
            job_name="daily_assessment_pdf_attachment",
        )
        return {"success": True, "message": "Daily Assessment PDF attachment job has been queued"}


    def _process_daily_assessment_pdfs():
        # The actual work
        ...
''')


def test_the_two_steps_of_a_long_scheduled_job(worker):
    """The worker has DEDUPLICATE_BY_JOB_NAME, with which a label is a key, as it is there."""
    work = f"{HERE}._process_daily_assessment_pdfs"
    waiting = TaskType.objects.create(method=work)
    pausing.pause_all(waiting)
    for _ in range(2):
        task = taskcontrol.enqueue(f"{HERE}.attach_daily_assessment_pdfs")
        assert finished(task)["success"]

    (one,) = TaskLog.objects.filter(method=work)
    assert (one.queue, one.timeout, one.status) == ("long", 3600, Status.PENDING)
    pausing.resume_all(waiting)
    assert finished(one) is None


define('''
    def daily_cleanup():
        """Scheduler entry point — fast: just enqueue the real work."""
        frappe.enqueue("my_app.tasks._do_cleanup", queue="long", timeout=1800)

    def _do_cleanup():
        # The actual work
        ...
''')


def test_the_fast_entry_of_the_scheduler(worker):
    assert finished(taskcontrol.enqueue(f"{HERE}.daily_cleanup")) is None

    assert finished(TaskLog.objects.get(method=f"{HERE}._do_cleanup")) is None


define(
    """
    def sync_customer_to_external(customer_id):
        # Has this customer already been synced today?
        today = frappe.utils.nowdate()
        if frappe.db.exists("External Sync Log", {
            "customer": customer_id,
            "sync_date": today,
            "status": "Success",
        }):
            return  # Already done — exit cleanly

        # ... do the sync ...

        frappe.get_doc({
            "doctype": "External Sync Log",
            "customer": customer_id,
            "sync_date": today,
            "status": "Success",
        }).insert(ignore_permissions=True)
        frappe.db.commit()
    """,
    **{
        'frappe.db.exists("External Sync Log", {': "SyncLog.objects.filter(**{",
        "}):": "}).exists():",
        "frappe.get_doc({": "SyncLog(**{",
        '"doctype": "External Sync Log",': "",
        "}).insert(ignore_permissions=True)": "}).save()",
    },
)


def test_check_before_mutate(worker):
    for _ in range(2):
        task = taskcontrol.enqueue(
            f"{HERE}.sync_customer_to_external", customer_id="CUST-1"
        )
        assert finished(task) is None

    assert SyncLog.objects.get().customer == "CUST-1"


def test_dedup_via_job_name(workshop, conf):
    conf(**CONFIGURED, DEDUPLICATE_BY_JOB_NAME=True)
    again = """
        task = frappe.enqueue(
            "my_app.tasks.recompute_customer_balance",
            queue="short",
            job_name=f"recompute-balance-{customer_id}",
            customer=customer_id,
        )
    """

    first = run(again, customer_id="CUST-1")["task"]
    second = run(again, customer_id="CUST-1")["task"]
    other = run(again, customer_id="CUST-2")["task"]

    assert (first.status, second, other.status) == (Status.PENDING, None, Status.PENDING)


define('''
    def update_inventory(item_code, expected_qty, new_qty):
        rows = frappe.db.sql(
            """UPDATE `tabBin`
               SET actual_qty = %s
               WHERE item_code = %s AND actual_qty = %s""",
            (new_qty, item_code, expected_qty),
        )
        if not rows:
            # Someone else updated it first; this run is stale
            return
''')


def test_optimistic_update_with_version_check(worker):
    Counter.objects.create(name="bolt", value=5)
    for new in (4, 3):
        task = taskcontrol.enqueue(
            f"{HERE}.update_inventory", item_code="bolt", expected_qty=5, new_qty=new
        )
        assert finished(task) is None

    assert Counter.objects.get(name="bolt").value == 4


WITH_LOCK = '''
    def with_lock(key, ttl=300):
        """Poor man's lock via Redis cache
'''


def test_the_lock_that_the_document_begins_to_write(workshop):
    with (
        taskcontrol.lock("recalculate", ttl=300),
        pytest.raises(taskcontrol.LockTaken, match="recalculate"),
        taskcontrol.lock("recalculate", ttl=300),
    ):
        pass
