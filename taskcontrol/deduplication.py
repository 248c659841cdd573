"""What becomes of a call whose key another task holds: skipped, answered, merged, queued behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db.models import F, Q

from . import keys, permissions
from .conf import conf
from .exceptions import InvalidCall, NotPermitted
from .keys import Hold, Holders, Key
from .models import TaskLog
from .options import flag, label, optional
from .status import MOVES, WAITING, Status

if TYPE_CHECKING:
    from .drafts import Draft

#: What ``on_duplicate`` may be.
CHOICES = ("skip", "return", "replace", "trailing")


class Wish(NamedTuple):
    """What a call asks for: no second task under this key, and what to do instead."""

    key: Key
    on_duplicate: str

    @property
    def merges(self) -> bool:
        """Whether a task that waits is to run with the newest arguments."""
        return self.on_duplicate in {"replace", "trailing"}


class Admission(NamedTuple):
    """The rows to insert, and what each call returns: its row, another's, or None."""

    rows: list[TaskLog]
    answers: list[TaskLog | None]
    holds: list[tuple[Hold, TaskLog]]

    def give_keys(self) -> None:
        """Let the rows, now inserted, have their keys."""
        if self.holds:
            keys.give([(hold, row.pk) for hold, row in self.holds])


def wish_of(options: Mapping[str, Any]) -> Wish | None:
    """Return what the options of ``enqueue`` ask for; None where duplicates are welcome.

    The key is ``job_id``, without one an explicit ``job_name``. Where only the setting asks
    for it, the key is the ``job_name``, and a ``job_id`` is a label.
    """
    on_duplicate = options.get("on_duplicate")
    if on_duplicate is not None and on_duplicate not in CHOICES:
        raise InvalidCall(
            f"on_duplicate must be one of {', '.join(CHOICES)}, not {on_duplicate!r}."
        )
    asked = bool(optional(flag, "deduplicate", options.get("deduplicate")) or on_duplicate)
    has_id = options.get("job_id") not in (None, "")
    name = "job_id" if asked and has_id else "job_name"
    given = options.get(name) not in (None, "")
    if asked and not given:
        raise InvalidCall(
            "deduplicate=True needs a key: give job_id=, or a job_name= that is the same "
            "for the same work."
        )
    if not asked and not (given and conf.DEDUPLICATE_BY_JOB_NAME):
        return None
    _refuse_to_wait(options, on_duplicate)
    return Wish(Key(label(255)(name, options[name])), on_duplicate or "skip")


def _refuse_to_wait(options: Mapping[str, Any], on_duplicate: str | None) -> None:
    if on_duplicate != "trailing":
        return
    if options.get("now") or options.get("is_async") is False:
        raise InvalidCall(
            'on_duplicate="trailing" lets a task wait for another; now=True runs it at once.'
        )
    if options.get("after") is not None:
        raise InvalidCall(
            'on_duplicate="trailing" decides itself which task to wait for; leave out after=.'
        )


def admit(drafts: Sequence[Draft], row_of: Callable[[Draft], TaskLog]) -> Admission:
    """Return the rows to insert for these calls, without those that are duplicates.

    Call it in the transaction of the INSERT, and ``give_keys`` after it. Keys are locked
    until the commit, except those of which a glance shows that nothing is to be done.
    """
    admission = Admission([], [], [])
    held = _holders_for([draft for draft in drafts if draft.wish])
    for draft in drafts:
        key = draft.wish.key if draft.wish else None
        verdict = _verdict(draft, held[key]) if key else Behind(None)
        if isinstance(verdict, Behind):
            row = verdict.placed(row_of(draft))
            admission.rows.append(row)
            admission.answers.append(row)
            if key:
                hold = keys.free_slot(key, held[key])
                held[key][hold.slot] = row
                admission.holds.append((hold, row))
        else:
            admission.answers.append(verdict)
    return admission


class Behind(NamedTuple):
    """The call is no duplicate; its task waits for the end of another, or for nothing."""

    task: TaskLog | None

    def placed(self, row: TaskLog) -> TaskLog:
        """Return the unsaved row, out of its lane while it has to wait."""
        if self.task is not None:
            row.after_id, row.ready_lane = self.task.pk, None
        return row


def _holders_for(drafts: Sequence[Draft]) -> dict[Key, Holders]:
    """Return who holds the keys of these calls, locked where something may follow from it.

    That somebody holds a key is a fact that needs no lock: a call that is then skipped
    came while that task had not ended.
    """
    wishes = [draft.wish for draft in drafts if draft.wish]
    uncertain = {wish.key for wish in wishes if wish.merges}
    others = {wish.key for wish in wishes} - uncertain
    seen = keys.holders(others) if others else {}
    uncertain |= {key for key, held in seen.items() if not held}
    return {**seen, **(keys.lock(uncertain) if uncertain else {})}


def _verdict(draft: Draft, held: Holders) -> TaskLog | Behind | None:
    """Return what a call that is a duplicate returns, or Behind what its task comes."""
    wish = draft.wish
    if wish is None or not held:
        return Behind(None)
    if wish.on_duplicate == "skip":
        return None
    if wish.on_duplicate == "return":
        return _newest(held)
    return _merge(draft, wish, held)


def _merge(draft: Draft, wish: Wish, held: Holders) -> TaskLog | Behind | None:
    """Give the arguments to the task that waits; where none does, all of them run."""
    for _ in MOVES:
        waiting = {slot: t for slot, t in held.items() if t.status != Status.STARTED}
        if not waiting:
            break
        if _replace(_newest(waiting), draft, wish.key):
            return _newest(waiting)
        held.clear()  # it began or ended in this moment
        held.update(keys.holders([wish.key])[wish.key])
    if not held:
        return Behind(None)
    may_wait = wish.on_duplicate == "trailing" and len(held) < len(wish.key.slots)
    return Behind(_newest(held)) if may_wait else None


def _replace(task: TaskLog, draft: Draft, key: Key) -> bool:
    """Give ``task`` the arguments of a newer call, unless it does not wait any more."""
    _refuse_other_work(task, draft, key)
    _refuse_others_task(task, draft, key)
    if not task.pk:  # of the same bulk call
        task.arguments = draft.values["arguments"]
        return True
    waits = Q(status__in=WAITING) | Q(retry_at__isnull=False)
    rows = TaskLog.objects.filter(waits, pk=task.pk)
    if not rows.update(arguments=draft.values["arguments"], rev=F("rev") + 1):
        return False
    task.refresh_from_db()
    return True


def _refuse_other_work(task: TaskLog, draft: Draft, key: Key) -> None:
    same = ("method", "document_type", "document_name")
    theirs, ours = (
        [str(value(name) or "") for name in same]
        for value in (lambda name: getattr(task, name), draft.values.get)
    )
    if theirs != ours:
        raise InvalidCall(
            f"The key {key.text!r} belongs to task {task.pk}, which runs "
            f"{' '.join(filter(None, theirs))}; it cannot take the arguments of "
            f"{' '.join(filter(None, ours))}. Use a key for each kind of work."
        )


def _refuse_others_task(task: TaskLog, draft: Draft, key: Key) -> None:
    """It would run what this caller says with the rights of another."""
    user = draft.creator
    if user is None or user.has_perm(permissions.PRIORITIZE):
        return
    anonymous = bool(task.options.get("anonymous"))
    if (task.created_by_id, anonymous) != (user.pk, user.pk is None):
        verb = (
            f"replace the arguments of task {task.pk}, which holds the key "
            f"{key.text!r} and is another user's"
        )
        raise NotPermitted(user, permissions.PRIORITIZE, verb)


def _newest(held: Holders) -> TaskLog:
    return max(held.values(), key=lambda task: task.pk or float("inf"))
