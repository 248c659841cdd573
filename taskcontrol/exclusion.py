"""One action at a time on a document: a second call is refused while the first has not ended."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from . import keys
from .documents import Document
from .exceptions import DocumentBusy
from .keys import Hold, Key
from .models import TaskLog

if TYPE_CHECKING:
    from .drafts import Draft

#: Characters that a key may have.
LONGEST = 255


def key_of(document: Document) -> Key:
    """Return the key that a task holds while it acts, or will act, on ``document``."""
    text = f"doc:{document.key}:{document.name}"
    if len(text) > LONGEST:
        text = f"doc:{hashlib.sha256(text.encode()).hexdigest()}"
    return Key(text, "document")


def hold_documents(
    calls: Iterable[tuple[Draft, TaskLog | None]],
) -> list[tuple[Hold, TaskLog]]:
    """Return the holds of the new rows among ``calls``; raise DocumentBusy if one is taken.

    Call it in the transaction of the INSERT, which then gives the holds to the rows.
    """
    wanted = []
    for draft, row in calls:
        key = draft.exclusive if draft.document else None
        if key and row and not row.pk:
            wanted.append((key, draft.method, row))
    held = keys.lock({key for key, _, _ in wanted}) if wanted else {}
    holds = []
    for key, method, row in wanted:
        for other in held[key].values():
            raise DocumentBusy(method, row.document_name, other.pk, other.status)
        hold = keys.free_slot(key, held[key])
        held[key][hold.slot] = row
        holds.append((hold, row))
    return holds
