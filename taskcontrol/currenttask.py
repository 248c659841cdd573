"""The running task as its body sees it: ``taskcontrol.current_task()``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from weakref import ReferenceType, WeakSet

from django.contrib.auth import get_user_model
from django.db import connections, transaction

from . import crashpoints
from .brief import brief, within_another
from .conf import conf
from .context import nobody
from .dialect import locked_keys
from .exceptions import InvalidCall, TaskCanceled, TaskUserGone, WithinTransaction
from .models import TaskLog
from .possession import Possession
from .progress import Reporter
from .side import side_database
from .status import Status
from .suspension import dispatcher_state

logger = logging.getLogger("taskcontrol")


class CurrentTask:
    """The running task, as its body sees it: ``taskcontrol.current_task()``."""

    def __init__(self, row: TaskLog) -> None:
        self.row = row
        self.id: int = row.pk
        self.name: str = row.name
        self.attempt: int = row.attempt
        self._reporter = Reporter(row.pk, row.attempt)
        self._user: Any = None
        #: How whoever runs the body commits a block together with its end.
        self.end_with: Callable[[], AbstractContextManager[None]] | None = None
        #: Sees to it that the row is Started, where that may lag behind the body; raises
        #: TaskCanceled when it is no more to be.
        self.have_begun: Callable[[], None] | None = None
        #: The loops over chunks that this run of the body has begun, by name. Held weakly,
        #: since one that the body lets go of ends at once.
        self.loops: dict[str, ReferenceType[Generator[Any]]] = {}
        #: The locks that this run of the body has taken.
        self.locks: WeakSet[Possession] = WeakSet()

    @property
    def user(self) -> Any:
        """The user as whom the task runs, read when first asked for; None for the system.

        Django's AnonymousUser where an anonymous visitor, or a task of his, made it.
        """
        if self._user is None and self.row.options.get("anonymous"):
            self._user = nobody()
        elif self._user is None and self.row.created_by_id is not None:
            key = self.row.created_by_id
            self._user = get_user_model()._default_manager.filter(pk=key).first()
            if self._user is None:
                raise TaskUserGone(self.id, key)
        return self._user

    @property
    def idempotency_key(self) -> str:
        """A text that is the same in every attempt of this task, for outside systems.

        No task of another site has it, which may use the same outside system.
        """
        return f"taskcontrol-{dispatcher_state().site}-{self.id}"

    def check_canceled(self) -> None:
        """Raise TaskCanceled when this task was canceled or this attempt given up on.

        The way to stop a body on threads and solo pools; harmless on prefork.
        """
        if self.have_begun is not None:
            self.have_begun()
        if not self._mine(side_database()).exists():
            raise TaskCanceled

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """Commit what the block writes together with the end of the task, or neither.

        So its writes to the tasks' database happen exactly once, however often the body
        runs. Behind the block the task is Finished: what the body still does cannot change
        that, and an error of it is logged; what it returns is kept as the result. When the
        task was canceled, or given to another attempt because this worker was silent for too
        long, TaskCanceled is raised and the block is rolled back.

        Raises WithinTransaction (a RuntimeError) inside ``transaction.atomic()``, and
        RuntimeError for a second block of one body: for steps before the last there is
        ``held()``. A body with ``atomic=True`` is fenced as a whole, and there the block is a
        part of that transaction.
        """
        with self.held() if self.end_with is None else self.end_with():
            yield

    @contextmanager
    def held(self) -> Iterator[None]:
        """Commit what the block writes only if this attempt still holds the task.

        As ``fenced``, but the task goes on: a crash later lets the body, and so the block,
        run again.
        """
        self.check_canceled()
        if self.row.options.get("atomic") and connections[conf.DATABASE].in_atomic_block:
            # The end of the body decides for all of it.
            with transaction.atomic(using=conf.DATABASE):
                yield
            return
        if within_another(conf.DATABASE):
            raise WithinTransaction("held", self.id)
        with brief(alone=False) as whole:
            yield
            whole.alone = True
            # Locked only from here to the commit: a cancel does not wait for the block.
            if not locked_keys(self._mine(conf.DATABASE)):
                raise TaskCanceled
            crashpoints.reached("held.locked")

    def report(self, message: Any) -> None:
        """Say how far the task is; see ``taskcontrol.notify_task_status``."""
        try:
            if self.have_begun is not None:
                self.have_begun()
            self._reporter.report(message)
        except InvalidCall as error:
            logger.warning("Task %s goes on without a message: %s", self.id, error)

    def close(self) -> None:
        """Say nothing more: the body is over, and its end writes the last progress."""
        self.let_go()
        self._reporter.close()

    def let_go(self) -> None:
        """Undo the chunks that a body has left in the middle, and release its locks.

        A traceback or a variable may keep a loop until another task runs here.
        """
        for reference in self.loops.values():
            if (loop := reference()) is not None:
                loop.close()
        self.loops.clear()
        for possession in tuple(self.locks):
            possession.end_block()
        self.locks.clear()

    @property
    def progress(self) -> dict[str, Any] | None:
        """The last progress that was said."""
        return self._reporter.latest

    def _mine(self, using: str) -> Any:
        """Return the row as long as it is in this attempt's hands."""
        return TaskLog.objects.using(using).filter(
            pk=self.id, attempt=self.attempt, status=Status.STARTED
        )
