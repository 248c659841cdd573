"""The two tasks of the library: one finds the files, the other indexes one of them."""

from __future__ import annotations

import uuid
from dataclasses import asdict

from django.utils import timezone

import taskcontrol
from taskcontrol.models import TaskBatch, TaskLog

from .indexing import find_sources, locate, measure
from .models import SourceFile


def start_indexing() -> tuple[TaskLog, str]:
    """Enqueue the coordinator; return its task and the id of the batch it will fill.

    The caller chooses the id, so that a page can follow the batch before it exists.
    """
    batch_id = str(uuid.uuid4())
    coordinator = taskcontrol.enqueue(
        index_library,
        job_name="Index the library",
        # batch_id= would make the coordinator a member of its own batch.
        arguments={"batch_id": batch_id},
    )
    return coordinator, batch_id


@taskcontrol.task(queue="short", timeout=120, description="Finds the files to index.")
def index_library(batch_id: str) -> str:
    """Find every source file and enqueue one batch with a task for each."""
    # All of the batch was committed at once; a coordinator that runs again after a crash
    # must not double it.
    if TaskBatch.objects.filter(pk=batch_id).exists():
        return f"Batch {batch_id} was enqueued before."
    taskcontrol.notify_task_status("Looking for source files…")
    sources = list(find_sources())
    taskcontrol.notify_task_status(f"Found {len(sources)} files. Enqueueing…")
    taskcontrol.bulk_enqueue(
        (
            {"job_name": f"Index {root}/{path}", "root": root, "path": path}
            for root, path in sources
        ),
        batch_id=batch_id,
        method=index_file,
    )
    return f"Enqueued {len(sources)} files."


@taskcontrol.task(queue="short", timeout=60, description="Indexes one source file.")
def index_file(path: str, root: str) -> None:
    """Measure one source file and store what was found; twice does no harm."""
    source = locate(root, path).read_bytes()
    counts = measure(source, f"{root}/{path}")
    task = taskcontrol.current_task()
    SourceFile.objects.update_or_create(
        root=root,
        path=path,
        defaults={
            **asdict(counts),
            "indexed_at": timezone.now(),
            "task_id": task.id if task else None,
            "batch_id": (task and task.row.batch_id) or "",
        },
    )
