"""Celery's pool of processes, of which each child has a line to the main process beside."""

from __future__ import annotations

import logging
import os
import select
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from billiard import get_start_method
from billiard.compat import mem_rss
from billiard.pool import EX_FAILURE, EX_RECYCLE
from celery.concurrency import asynpool, prefork
from celery.worker import state

from . import memory
from .lines import Line
from .watchers import who_watches

logger = logging.getLogger("taskcontrol")

#: What ``celery worker -P`` calls Celery's own pool of processes.
CELERYS_OWN = (
    "prefork",
    "processes",
    "celery.concurrency.prefork:TaskPool",
    prefork.TaskPool,
)

#: In the main process: the pool's processes that live, each with its line.
processes: dict[int, Any] = {}
#: Called in the main process when there is a new one, and when one is dead.
on_change: list[Callable[[], None]] = []
#: Called in the main process, within a Unix signal handler, when all that runs is to end.
on_cold_stop: list[Callable[[], None]] = []
#: In a child: the line that it serves.
_served: list[Line] = []
#: Makes what serves the line in a child; it is told whether a job of Celery's waits.
serve_by: list[Callable[[Line, Callable[[], bool]], Any]] = []


def serves(pool: Any) -> bool:
    """Return whether the children of this pool have lines."""
    return isinstance(pool, TaskPool) and isinstance(getattr(pool, "_pool", None), Pool)


class Child(asynpool.Worker):
    """A child that takes jobs from its line whenever none of Celery's waits."""

    def __init__(self, *args: Any, **options: Any) -> None:
        # Who does not fork cannot hand an open line on.
        self.line: Line | None = Line() if get_start_method() == "fork" else None
        self._servant: Any = None
        self.wait_for_job: Any = None
        self._taken = 0
        super().__init__(*args, **options)

    def contribute_to_object(self, obj: Any) -> Any:
        """Let the main process find the line by the process."""
        obj.line = self.line
        return super().contribute_to_object(obj)

    def after_fork(self) -> None:
        """Keep no end of a line that is not this child's: its death would go unseen."""
        for process in processes.values():
            process.line.keep_child_end()
        processes.clear()
        if self.line is not None:
            self.line.keep_child_end()
        super().after_fork()

    def on_loop_start(self, pid: int) -> None:
        """Begin to listen to both; where somebody watches Celery, to Celery alone."""
        if self.line is not None and serve_by and self.inq is not None:
            watcher = who_watches()
            if watcher:
                logger.info("All tasks go by message, for %s.", watcher)
                self.line.page.leave()
                self.line.child_end.close()
            else:
                self._serve(self.line)
        super().on_loop_start(pid)

    def _serve(self, line: Line) -> None:
        _served[:] = [line]
        jobs = select.poll()
        jobs.register(self._celerys(), select.POLLIN)
        self._servant = serve_by[0](line, partial(_is_ready, jobs))
        self.wait_for_job = partial(self._wait, self.wait_for_job)

    def _wait(self, receive: Callable[[], Any]) -> Any:
        """Wait for a job of Celery's, and serve the line meanwhile."""
        if self._servant.line.parted:
            os._exit(EX_FAILURE)  # a copy that came back from its body: the first goes on
        reader = self._celerys()
        both = select.poll()
        both.register(reader, select.POLLIN)
        both.register(self._servant.line.child_end.fileno(), select.POLLIN)
        self._leave_if_worn()
        self._servant.rest()
        while not self._servant.over:
            ready = dict(both.poll())
            if reader in ready:
                break
            self._servant.serve(self._left())
            self._leave_if_worn()
        self._servant.make_way()
        self._taken += 1
        return receive()

    def _celerys(self) -> int:
        number: int = self.inq._reader.fileno()  # noqa: SLF001 - billiard has no other word for it
        return number

    def _left(self) -> int | None:
        """Return how many more bodies this child may run; None: as many as come."""
        if not self.maxtasks:
            return None
        return int(max(self.maxtasks - self._taken - self._servant.bodies, 0))

    def _leave_if_worn(self) -> None:
        """Make room for a new child after so many tasks, or with so much memory, as Celery does."""
        if not memory.is_left():
            # It would fail every task that it takes, and fast: it would take most of them.
            self._servant.make_way()
            sys.exit(EX_RECYCLE)
        worn = self._left() == 0
        limit = self.max_memory_per_child or 0
        if self._servant.bodies and limit > 0 and mem_rss() > limit:
            worn = True
        if worn and self._servant.bodies:
            self._servant.make_way()
            sys.exit(EX_RECYCLE)


def _is_ready(one: Any) -> bool:
    return bool(one.poll(0))


class Pool(asynpool.AsynPool):
    """Celery's pool with such children."""

    Worker = Child

    def _worker_active(self, worker: Any) -> bool:
        """Keep a child at work from being ended when the pool shrinks."""
        at_work = worker.line is not None and worker.line.page.current
        return bool(at_work or super()._worker_active(worker))

    def _process_cleanup_queues(self, worker: Any) -> None:
        """Tell of a dead child before another has the numbers of its pipes."""
        if worker.line is not None:
            worker.line.child_is_dead = True
            self._busy_workers.discard(worker.inqW_fd)
            for tell in on_change:
                tell()
        super()._process_cleanup_queues(worker)

    def _create_worker_process(self, i: int) -> Any:
        process = super()._create_worker_process(i)
        if process.line is not None:
            process.line.keep_main_end()
            processes[process.pid] = process
            for tell in on_change:
                tell()
        return process


class TaskPool(prefork.TaskPool):
    """What ``-P prefork`` is in a worker of ours."""

    Pool = Pool

    def on_stop(self) -> None:
        """Wait for what runs; of a cold stop tell who knows of bodies that Celery does not."""
        if state.should_terminate:
            for tell in on_cold_stop:
                tell()
        super().on_stop()


def _part_in_copy() -> None:
    """What a body forks is no child of the pool: it keeps the line of none open."""
    for line in _served:
        line.part()
    _served.clear()


os.register_at_fork(after_in_child=_part_in_copy)
