"""Right and wrong calls, for the type checker only: an ignore without an error is an error."""

from __future__ import annotations

import datetime as dt

import taskcontrol
from taskcontrol import bulk_enqueue, bulk_enqueue_safe, enqueue, enqueue_doc, enqueue_safe
from taskcontrol.models import TaskLog


@taskcontrol.task(queue="short", timeout=dt.timedelta(minutes=1), retry_on=OSError)
def declared(invoice: int) -> str:
    """Stay a typed function under the decorator."""
    return str(invoice)


@taskcontrol.task
def bare(invoice: int) -> int:
    """Stay one without options too."""
    return invoice


@taskcontrol.whitelist(name="safe")
def safe(invoice: int) -> str:
    """Stay one on the whitelist."""
    return str(invoice)


def right_calls() -> str:
    """Make calls that a type checker takes."""
    task: TaskLog = enqueue(declared, invoice=1, timeout=5, run_at=dt.timedelta(1))
    enqueue("a.b", after=task, retry_on=[OSError, "a.b.Broken"], on_failure="a.b")
    enqueue(declared, arguments={"queue": 1}, on_duplicate="return", job_id="j").cancel()
    batch = bulk_enqueue(({"invoice": n} for n in range(3)), method=declared, copy=True)
    bulk_enqueue_safe([{}], batch, method="safe", queue="short")
    number: int = bare(1)
    return declared(number) + safe(number) + batch


def wrong_calls(task: TaskLog) -> None:
    """Make calls of which a type checker finds each."""
    enqueue(5)  # type: ignore[arg-type]
    enqueue(declared, "short")  # type: ignore[call-arg]
    enqueue(declared, queue=5)  # type: ignore[arg-type]
    enqueue(declared, timeout="5")  # type: ignore[arg-type]
    enqueue(declared, job_name=5)  # type: ignore[arg-type]
    enqueue(declared, document_type=5)  # type: ignore[arg-type]
    enqueue(declared, document_action=5)  # type: ignore[arg-type]
    enqueue(declared, max_retries="3")  # type: ignore[arg-type]
    enqueue(declared, retry_delay="3")  # type: ignore[arg-type]
    enqueue(declared, at_front="yes")  # type: ignore[arg-type]
    enqueue(declared, at_front_when_starved="yes")  # type: ignore[arg-type]
    enqueue(declared, call_whitelisted_function="yes")  # type: ignore[arg-type]
    enqueue(declared, batch_id=5)  # type: ignore[arg-type]
    enqueue(declared, batch_order="5")  # type: ignore[arg-type]
    enqueue(declared, paused="no")  # type: ignore[arg-type]
    enqueue(declared, run_at=5)  # type: ignore[arg-type]
    enqueue(declared, expires="now")  # type: ignore[arg-type]
    enqueue(declared, priority="high")  # type: ignore[arg-type]
    enqueue(declared, job_id=5)  # type: ignore[arg-type]
    enqueue(declared, deduplicate="yes")  # type: ignore[arg-type]
    enqueue(declared, on_duplicate="forget")  # type: ignore[arg-type]
    enqueue(declared, enqueue_after_commit="no")  # type: ignore[arg-type]
    enqueue(declared, now="yes")  # type: ignore[arg-type]
    enqueue(declared, is_async="no")  # type: ignore[arg-type]
    enqueue(declared, on_success=5)  # type: ignore[arg-type]
    enqueue(declared, on_failure=5)  # type: ignore[arg-type]
    enqueue(declared, retry_on=5)  # type: ignore[arg-type]
    enqueue(declared, discard_on=int)  # type: ignore[arg-type]
    enqueue(declared, backoff="slowly")  # type: ignore[arg-type]
    enqueue(declared, atomic="yes")  # type: ignore[arg-type]
    enqueue(declared, event=5)  # type: ignore[arg-type]
    enqueue(declared, track_job="yes")  # type: ignore[arg-type]
    enqueue(declared, created_by="bob")  # type: ignore[arg-type]
    enqueue(declared, after=1.5)  # type: ignore[arg-type]
    enqueue(declared, arguments=[1])  # type: ignore[arg-type]
    enqueue(declared).cancle()  # type: ignore[union-attr]


def wrong_bulks() -> None:
    """Make wrong calls of the others."""
    bulk_enqueue(5)  # type: ignore[arg-type]
    bulk_enqueue([1])  # type: ignore[list-item]
    bulk_enqueue([{}], 5)  # type: ignore[arg-type]
    bulk_enqueue([{}], method=5)  # type: ignore[arg-type]
    bulk_enqueue([{}], queue=5)  # type: ignore[arg-type]
    bulk_enqueue_safe([{}], queue=5)  # type: ignore[arg-type]
    enqueue_safe("safe", queue=5)  # type: ignore[arg-type]
    enqueue_doc("a.B", 1, "x", queue=5)  # type: ignore[arg-type]
    enqueue_doc("a.B", 1, "x", priority="x")  # type: ignore[arg-type]
    enqueue_doc("a.B", 1, "x", on_duplicate="x")  # type: ignore[arg-type]
    taskcontrol.create_batch(created_by="bob")  # type: ignore[arg-type]
    taskcontrol.cancel_batch("b", user="bob")  # type: ignore[arg-type]
    taskcontrol.pause_batch("b", user="bob")  # type: ignore[arg-type]
    taskcontrol.resume_batch("b", user="bob")  # type: ignore[arg-type]
    taskcontrol.retry_batch("b", user="bob")  # type: ignore[arg-type]
    taskcontrol.cancel("1", user="bob")  # type: ignore[arg-type]
    taskcontrol.retry("1", user="bob")  # type: ignore[arg-type]
    taskcontrol.pause("1", user="bob")  # type: ignore[arg-type]
    taskcontrol.toggle_dispatcher(True, user="bob")  # type: ignore[arg-type]
    taskcontrol.task(queue=5)  # type: ignore[call-overload]
    taskcontrol.task(qeue="short")  # type: ignore[call-overload]
    taskcontrol.declare_type("a.b", timeout="5")  # type: ignore[arg-type]
    taskcontrol.whitelist(permission=5)  # type: ignore[call-overload]
    taskcontrol.cancel(1.5)  # type: ignore[arg-type]
    taskcontrol.enqeue(declared)  # type: ignore[attr-defined]
    declared("7")  # type: ignore[arg-type]


def wrong_calls_of_others() -> None:
    """Make wrong calls of schedules, locks, lookups and progress."""
    taskcontrol.schedules.create(declared, every="5")  # type: ignore[arg-type]
    taskcontrol.schedules.create(declared, cron=5)  # type: ignore[arg-type]
    taskcontrol.schedules.create(declared, at="now")  # type: ignore[arg-type]
    taskcontrol.schedules.create(declared, every=5, on_missed="x")  # type: ignore[arg-type]
    taskcontrol.schedules.create(declared, every=5, run_as="bob")  # type: ignore[arg-type]
    taskcontrol.schedules.run(5)  # type: ignore[arg-type]
    taskcontrol.lock(5)  # type: ignore[arg-type]
    taskcontrol.lock("stock", ttl="5")  # type: ignore[arg-type]
    taskcontrol.lock("stock", wait="5")  # type: ignore[arg-type]
    taskcontrol.get_job(1.5)  # type: ignore[arg-type]
    taskcontrol.notify_task_status(5)  # type: ignore[arg-type]
    taskcontrol.notify_task_status({"progress": {"count": "3"}})  # type: ignore[arg-type]
