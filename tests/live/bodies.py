"""Bodies that a page watches, and what its buttons call."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import taskcontrol
from taskcontrol import bulk_enqueue, enqueue, notify_task_status
from tests.models import Counter


def report_and_wait(
    count: float = 1, total: float | None = 4, description: str | None = "one"
) -> None:
    """Report a step, and wait until it is canceled."""
    notify_task_status(
        {"progress": {"count": count, "total": total, "description": description}}
    )
    task = taskcontrol.current_task()
    while task is not None:
        task.check_canceled()
        threading.Event().wait(0.05)


# The code of the documents for their JavaScript, in the names of this project.


def start_import(items: list[str]) -> str:
    """Start what the page shows the progress of."""
    return enqueue(my_long_running_job, items=items).name


def my_long_running_job(items: list[str]) -> None:
    """Process each, and say so."""
    for i, item in enumerate(items):
        process(i, item)
        notify_task_status(
            message={
                "progress": {
                    "count": i + 1,
                    "total": len(items),
                    "description": f"Processing item {i + 1} of {len(items)}…",
                }
            }
        )


def process(number: int, item: str) -> None:
    """Wait until the test lets this one through; the bad one is refused."""
    while not Counter.objects.filter(name="let through", value__gt=number).exists():
        threading.Event().wait(0.05)
    if item == "bad":
        raise ValueError("the bad one")


def let_through(number: int) -> None:
    """Let so many items be processed."""
    Counter.objects.update_or_create(name="let through", defaults={"value": number})


def bulk_create(items: list[str]) -> dict[str, Any]:
    """Let a coordinator fill a batch whose id is known before."""
    batch_id = str(uuid.uuid4())
    coordinator = enqueue(
        _coordinator,
        queue="short",
        job_name="Bulk Create",
        arguments={"items": items, "batch_id": batch_id},
    )
    return {"batch_id": batch_id, "coordinator_task_name": coordinator.name}


def _coordinator(items: list[str], batch_id: str) -> None:
    notify_task_status(message=f"Resolved {len(items)} items. Enqueueing…")
    tasks = [
        {"method": process_item, "batch_id": batch_id, "arguments": {"item": i}}
        for i in items
    ]
    bulk_enqueue(tasks, batch_id=batch_id)


def process_item(item: str) -> str:
    """Process one item as a task."""
    return f"processed {item}"
