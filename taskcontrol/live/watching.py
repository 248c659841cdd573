"""One page that watches: what it may see of what it asked for, and the news it has not got."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .states import State

#: Things that one page may watch.
MOST_WATCHED = 200


@dataclass(frozen=True)
class Asked:
    """What a request asks to see, and who asks."""

    user_id: Any
    #: Whether the person may see every task.
    sees_all: bool = False
    tasks: frozenset[int] = frozenset()
    batches: frozenset[str] = frozenset()
    #: Whether it wants all the tasks of its own user.
    own: bool = False
    #: Keys ("task:12", "batch:…") that a signed token opens for everybody.
    opened: frozenset[str] = frozenset()

    @property
    def may_ask(self) -> bool:
        """Whether there can be anything for this one to see: a login or a valid token."""
        return self.user_id is not None or bool(self.opened)

    def sees(self, kind: str, state: State) -> bool:
        """Return whether this one may see a thing: by permission, as its owner, by token."""
        if self.sees_all or f"{kind}:{state.key}" in self.opened:
            return True
        return self.user_id is not None and state.owner == self.user_id


def frame(event: str, told: Any) -> bytes:
    """Return one event of the stream as bytes."""
    data = json.dumps(told, ensure_ascii=False, separators=(",", ":"), default=str)
    return f"event: {event}\ndata: {data}\n\n".encode()


def seen_of(
    asked: Asked,
    tasks: Mapping[int, State],
    batches: Mapping[str, State],
    own: Iterable[State] = (),
) -> dict[str, Any]:
    """Return what ``asked`` may see of these, and the rest of what it asked for as missing.

    What is forbidden and what does not exist are answered alike.
    """
    told = [state.told for state in tasks.values() if asked.sees("task", state)]
    counted = [state.told for state in batches.values() if asked.sees("batch", state)]
    seen = {one["name"] for one in told}, {one["batch_id"] for one in counted}
    missing = [
        *sorted({str(key) for key in asked.tasks} - seen[0]),
        *sorted(asked.batches - seen[1]),
    ]
    mine = [state.told for state in own]
    return {"tasks": told, "own": mine, "batches": counted, "missing": missing}


@dataclass(eq=False)
class Watch:
    """The mailbox of one stream: of each thing only the newest news waits."""

    asked: Asked
    #: Called, from the reader's thread, when something came into an empty mailbox.
    ring: Callable[[], object]
    #: Own tasks that have not ended, beside what was asked for by key.
    following: set[int] = field(default_factory=set)
    closed: bool = False
    _mail: dict[str, bytes] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, key: str, news: bytes) -> None:
        """Leave a news; an older one of the same thing is dropped."""
        with self._lock:
            was_empty = not self._mail
            self._mail.pop(key, None)
            self._mail[key] = news
        if was_empty:
            self.ring()

    def follow(self, task_id: int, *, ended: bool) -> None:
        """Note an own task, to be read again and again until it has ended."""
        if ended:
            self.following.discard(task_id)
        else:
            self.following.add(task_id)

    def take(self) -> Collection[bytes]:
        """Return what waits, oldest first, and empty the mailbox."""
        with self._lock:
            mail, self._mail = self._mail, {}
        return mail.values()

    def close(self) -> None:
        """End the stream; its page may open another one."""
        self.closed = True
        self.ring()
