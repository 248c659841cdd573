"""What a request may ask to watch, and the signed tokens that let anybody watch one thing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core import signing
from django.http import HttpRequest

from ..exceptions import InvalidCall
from ..models import TaskBatch, TaskLog
from ..permissions import VIEW
from .watching import MOST_WATCHED, Asked

#: Seconds for which a token opens what it was made for.
TOKEN_AGE = 24 * 3600
#: What is answered to those who have nothing to see at all.
NOBODY = "Log in, or bring a valid token of what is to be watched."
_SALT = "taskcontrol.live"
_BATCH_ID_MAX = 140


def watch_token(what: TaskLog | TaskBatch | str | int) -> str:
    """Return a token with which a page without a login may watch one task or one batch.

    ``what`` is the row, the key of a task (an int or digits), or the id of a batch. It holds
    for a day, shows status, progress and the last line of an error, and opens nothing else.
    """
    return signing.dumps(_key_of(what), salt=_SALT, compress=True)


def _key_of(what: Any) -> str:
    if isinstance(what, TaskBatch):
        return f"batch:{what.pk}"
    if isinstance(what, TaskLog):
        return f"task:{what.pk}"
    text = str(what)
    return f"task:{text}" if text.isascii() and text.isdigit() else f"batch:{text}"


def asked_by(request: HttpRequest, user: Any) -> Asked:
    """Return what ``request`` asks to watch: ``?tasks=1,2&batches=a&own=1&tokens=…``.

    Raises InvalidCall for what no key can be, and for more than ``MOST_WATCHED`` things.
    Whether the person may see them is asked of each row when it is told.
    """
    given = request.GET
    tasks = frozenset(_task_id(text) for text in _listed(given.getlist("tasks")))
    batches = frozenset(_batch_id(text) for text in given.getlist("batches") if text)
    if len(tasks) + len(batches) > MOST_WATCHED:
        raise InvalidCall(f"A page may watch {MOST_WATCHED} tasks and batches at once.")
    known = user is not None and user.is_authenticated
    return Asked(
        user_id=user.pk if known else None,
        sees_all=bool(known and user.has_perm(VIEW)),
        tasks=tasks,
        batches=batches,
        own=bool(known and given.get("own")),
        opened=frozenset(_opened(given.getlist("tokens"))),
    )


def _listed(texts: Iterable[str]) -> list[str]:
    return [one for text in texts for one in text.split(",") if one]


def _task_id(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    raise InvalidCall(f"{text[:40]!r} is not the key of a task.")


def _batch_id(text: str) -> str:
    if len(text) <= _BATCH_ID_MAX and "\0" not in text:
        return text
    raise InvalidCall(f"{text[:40]!r} is not the id of a batch.")


def _opened(tokens: Iterable[str]) -> Iterable[str]:
    """Yield what valid tokens open; a forged or old one opens nothing."""
    for token in _listed(tokens):
        try:
            yield signing.loads(token, salt=_SALT, max_age=TOKEN_AGE)
        except signing.BadSignature:
            continue
