"""The tasks of the library: one finds the files, one indexes a file, one reads them all."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from dataclasses import asdict
from typing import Literal

from django.db import transaction
from django.utils import timezone

import taskcontrol
from taskcontrol.models import TaskBatch, TaskLog

from .indexing import BrokenSource, find_sources, locate, measure, names_in
from .models import SourceFile

logger = logging.getLogger(__name__)


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
    # A coordinator that runs again after a crash must not double its batch.
    if TaskBatch.objects.filter(pk=batch_id).exists():
        return f"Batch {batch_id} was enqueued before."
    taskcontrol.notify_task_status("Looking for source files…")
    sources = list(find_sources())
    taskcontrol.notify_task_status(f"Found {len(sources)} files. Enqueueing…")
    with transaction.atomic():
        taskcontrol.create_batch(batch_id, title=f"Index {len(sources):,} files")
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


@taskcontrol.task(
    queue="long",
    timeout=1800,
    concurrency_limit=1,
    priority=1,  # before the many small ones that may be waiting
    description="Reads all files one after the other, which takes a while.",
)
def rank_names(
    top: int = 10, root: Literal["everything", "stdlib", "samples"] = "everything"
) -> dict[str, int]:
    """Return the names that the code of the library uses most, and how often."""
    sources = [one for one in find_sources() if root in {"everything", one[0]}]
    found: Counter[str] = Counter()
    for number, (below, path) in enumerate(sources):
        taskcontrol.notify_task_status(
            {"progress": {"count": number, "total": len(sources), "description": path}}
        )
        try:
            found.update(names_in(locate(below, path).read_bytes(), f"{below}/{path}"))
        except BrokenSource as error:
            logger.warning(error)
    return dict(found.most_common(top))
