"""Runs the nasty corpus on real workers, and says what is wrong with how its cases ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import taskcontrol
from taskcontrol.conf import conf
from taskcontrol.exceptions import InvalidCall
from taskcontrol.models import TaskAttempt, TaskLog
from tests.integration.watching import all_ended, kinds, story
from tests.nasty import Case, remove_cgroups

#: What a case becomes: its row, or the refusal of the call.
Became = TaskLog | InvalidCall


def run_all(cases: Sequence[Case], timeout: float) -> dict[Case, Became]:
    """Run every case, all at the same time, and return what became of each."""
    became = {case: _enqueue(case) for case in cases}
    rows = [one for one in became.values() if isinstance(one, TaskLog)]
    ended = {row.pk: row for row in all_ended(rows, timeout)}
    remove_cgroups()
    return {
        case: ended[one.pk] if isinstance(one, TaskLog) else one
        for case, one in became.items()
    }


def _enqueue(case: Case) -> Became:
    try:
        row: TaskLog = taskcontrol.enqueue(
            case.method, timeout=case.timeout, arguments=case.arguments
        )
    except InvalidCall as refusal:
        return refusal
    return row


def wrongs(became: dict[Case, Became]) -> list[str]:
    """Return a sentence for everything that did not end as it has to; hopefully none."""
    return [
        f"{case.name}: {wrong}"
        for case, one in became.items()
        for wrong in _wrongs(case, one)
    ]


def _wrongs(case: Case, one: Became) -> Iterator[str]:
    if case.refused or isinstance(one, InvalidCall):
        if (
            not case.refused
            or not isinstance(one, InvalidCall)
            or case.says not in str(one)
        ):
            yield f"{one!r} where a refusal that says {case.says!r} was to come"
        return
    if (one.status, one.lost_count) != (case.status, case.lost):
        yield f"{one.status}, lost {one.lost_count} times: {one.error_message[-500:]}"
    if case.says not in one.error_message:
        yield f"the error does not say {case.says!r}: {one.error_message[-500:]!r}"
    yield from _unreadable(one)
    yield from _miscounted(case, one)


def _unreadable(row: TaskLog) -> Iterator[str]:
    for text, limit in (
        (row.error_message, conf.ERROR_MAX_CHARS),
        (row.debug_log, conf.DEBUG_LOG_MAX_CHARS),
    ):
        if "\0" in text or len(text) > limit:
            yield f"{len(text)} characters, or a NUL among them"
        text.encode()


def _miscounted(case: Case, row: TaskLog) -> Iterator[str]:
    """Each life that was lost is on record, and no life was lost beside them."""
    lives = max(case.lost, 1)
    attempts = TaskAttempt.objects.filter(task=row).count()
    if (row.attempt, attempts) != (lives, lives - 1):
        yield f"attempt {row.attempt} with {attempts} kept before it, not {lives}"
    # On a slow machine a message may be sent again, which harms nobody.
    if kinds(row).count("rescued") != lives - 1:
        yield f"on record: {story(row)}"
