"""Mutual exclusion by name: one block of code at a time, in whatever process it runs."""

from __future__ import annotations

import functools
import inspect
import os
import platform
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from string import Formatter
from types import TracebackType
from typing import Any, TypeVar

from django.db import IntegrityError, connections, transaction
from django.db.models import Q

from .conf import conf
from .context import current_task
from .dialect import DatabaseNow
from .exceptions import InvalidCall, LockLost, LockTaken
from .models import Lock, TaskEvent, seconds
from .options import duration, whole_seconds
from .possession import Possession, has_left, needed_by_this_transaction
from .side import side_database
from .text import clipped, storable
from .wording import moment

F = TypeVar("F", bound=Callable[..., Any])

MAX_KEY = 255
#: Seconds between two tries of somebody who waits: doubled from the first up to the second.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 0.5


def lock(key: str, ttl: float = 300, *, wait: float = 0) -> Locking:
    """Hold the name ``key`` in a ``with`` block, or while a decorated function runs.

    ``ttl``: seconds after which it is free again if this process dies; as long as it lives,
    a thread extends it. ``wait``: seconds to wait for it; with 0, the default, LockTaken is
    raised at once, and the task that runs here notes it among its events. As a decorator,
    ``key`` may name the function's arguments: ``@lock("recalculate-{account}")``.

    The block gets a Held, whose ``check()`` and ``fenced()`` raise LockLost when somebody
    else may hold the lock by now, as after a long sleep of the machine; so does the end of
    the block. Not reentrant. In a transaction it is released when that has ended, by commit or
    by rollback; until then only this transaction may take it again.
    """
    text: object = key
    if not isinstance(text, str) or not 0 < len(key) <= MAX_KEY or not storable(key):
        raise InvalidCall(
            f"The key of a lock must be a text of 1 to {MAX_KEY} characters, not {key!r:.100}."
        )
    return Locking(key, whole_seconds("ttl", ttl), duration("wait", wait))


class Locking:
    """One use of a lock: what ``with`` enters, or what decorates a function."""

    def __init__(self, key: str, ttl: int, wait: float) -> None:
        self.key, self.ttl, self.wait = key, ttl, wait
        self._held: list[Held] = []

    def __enter__(self) -> Held:
        held = _acquire(self.key, self.ttl, self.wait)
        self._held.append(held)
        return held

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        held = self._held.pop()
        if not held.release() and error is None:
            raise LockLost(self.key)

    def __call__(self, function: F) -> F:
        """Decorate ``function``: each call holds the lock, named by its arguments."""
        signature = inspect.signature(function)
        _check_names(self.key, signature, function)

        @functools.wraps(function)
        def locked(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            key = self.key.format_map(given.arguments)
            with lock(key, self.ttl, wait=self.wait):
                return function(*args, **kwargs)

        return locked  # type: ignore[return-value]


def _check_names(key: str, signature: inspect.Signature, function: Any) -> None:
    """Refuse a key that names what the function does not take."""
    for _, field, _, _ in Formatter().parse(key):
        name = re.split(r"[.\[]", field, maxsplit=1)[0] if field is not None else None
        if name is not None and name not in signature.parameters:
            raise InvalidCall(
                f"The key {key!r} names {name!r}, which {function.__qualname__} does not take; "
                f"it takes {', '.join(signature.parameters) or 'nothing'}."
            )


class Held:
    """A lock that this block holds, and a thread extends."""

    def __init__(self, possession: Possession) -> None:
        self.key, self.ttl = possession.key, possession.ttl
        self._possession = possession

    @property
    def lost(self) -> bool:
        """Whether somebody else may hold it by now; asks no database."""
        return self._possession.lost

    def check(self) -> None:
        """Raise LockLost unless the database says that it is still held here."""
        if not self._possession.rows().filter(expires_at__gt=DatabaseNow()).exists():
            self._possession.note_loss()
            raise LockLost(self.key)

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """Run the block in a transaction that commits only if the lock is held until then.

        Nobody can take it in between, so what the block writes to the tasks' database is
        never written beside a successor. Raises LockLost before the block begins.
        """
        with transaction.atomic(using=conf.DATABASE):
            rows = self._possession.rows(conf.DATABASE)
            if connections[conf.DATABASE].features.has_select_for_update:
                rows = rows.select_for_update()
            if not rows.filter(expires_at__gt=DatabaseNow()).values_list("pk").first():
                self._possession.note_loss()
                raise LockLost(self.key)
            yield

    def release(self) -> bool:
        """Let others have it; False when it was lost before.

        Within a transaction that happens when it has ended, by commit or by rollback.
        """
        return self._possession.end_block()


def _acquire(key: str, ttl: int, wait: float) -> Held:
    until = time.monotonic() + wait
    pause = SHORTEST_PAUSE
    while True:
        possession = _try(key, ttl)
        if possession is not None:
            task = current_task()
            if task is not None:
                task.locks.add(possession)
            return Held(possession)
        left = until - time.monotonic()
        if left <= 0:
            raise _taken(key)
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE)


def _try(key: str, ttl: int) -> Possession | None:
    """Take the lock if it is free, or if the transaction open here still has it."""
    ours = needed_by_this_transaction(key)
    if ours is not None and ours.resume(ttl):
        return ours
    since = time.monotonic()
    token = _insert(key, ttl)
    return None if token is None else Possession(key, ttl, token, since)


def _insert(key: str, ttl: int) -> uuid.UUID | None:
    """Make the row of the lock: whoever inserts it has it."""
    alias = side_database()
    task = current_task()
    free = Q(expires_at__lte=DatabaseNow())
    attempt = 0
    if task is not None:
        # An attempt begins when the body of the earlier one is gone, and its locks with it.
        attempt = task.attempt
        free |= Q(task=task.id, attempt__lt=attempt)
    rows = Lock.objects.using(alias).filter(key=key)
    rows.filter(free).delete()
    holder = rows.values_list("token", flat=True).first()
    if holder is not None and not has_left(holder) and rows.exists():
        return None
    token = uuid.uuid4()
    mine = Lock(
        key=key,
        token=token,
        expires_at=DatabaseNow() + seconds(ttl),
        holder=f"process {os.getpid()} on {platform.node()}",
        task_id=None if task is None else task.id,
        attempt=attempt,
    )
    try:
        with transaction.atomic(using=alias):
            mine.save(using=alias, force_insert=True)
    except IntegrityError:
        return None
    return token


def _taken(key: str) -> LockTaken:
    """Return the error that says who has it; a task keeps it among its events."""
    alias = side_database()
    row = Lock.objects.using(alias).filter(key=key).first()
    told = "somebody who has just let go of it"
    if row is not None:
        who = f"task {row.task_id}, {row.holder}" if row.task_id else row.holder
        told = f"{who}, since {moment(row.taken_at)}"
    task = current_task()
    error = LockTaken(key, told, None if row is None else row.task_id)
    if task is not None:
        TaskEvent.objects.using(alias).create(
            task_id=task.id,
            kind=TaskEvent.Kind.REFUSED,
            attempt=task.attempt,
            detail=clipped(str(error), 500),
        )
    return error
