"""Writes one or many Pending tasks in the caller's transaction, after checking the call."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from django.db import connections
from django.db.models import Model

from . import batches, crashpoints, inline
from .bell import request_dispatch
from .brief import brief
from .conf import conf
from .deduplication import Admission, admit
from .dialect import microseconds_now
from .drafts import Draft, creator_of
from .exceptions import InvalidCall
from .exclusion import hold_documents
from .glance import Glance
from .inserts import PreparedInsert
from .models import TaskLog
from .options import Duration, ErrorClasses
from .side import apart
from .signature import OPTIONS, UNSAID, said

if TYPE_CHECKING:
    from .people import Person

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: Rows that one INSERT of ``bulk_enqueue`` writes.
CHUNK = 1000

#: A function of the project, or its dotted path.
Reference = str | Callable[..., Any]
OnDuplicate = Literal["skip", "return", "replace", "trailing"]
#: None, but only where deduplication was asked for: no caller need check it elsewhere.
MaybeNone = Any


def enqueue(  # noqa: PLR0913 - the options that the documents promise
    method: Reference | None = None,
    *,
    queue: str | None = None,
    timeout: Duration | None = None,
    job_name: str | None = None,
    document_type: type[Model] | Model | str | None = None,
    document_name: Any = None,
    document_action: str | None = None,
    max_retries: int | None = None,
    retry_delay: Duration | None = None,
    at_front: bool = False,
    call_whitelisted_function: bool = False,
    batch_id: str | None = None,
    batch_order: int | None = None,
    paused: bool = False,
    run_at: dt.datetime | dt.timedelta | None = None,
    priority: int | None = None,
    job_id: str | None = None,
    deduplicate: bool = False,
    on_duplicate: OnDuplicate | None = None,
    enqueue_after_commit: bool = True,
    now: bool = False,
    is_async: bool = True,
    at_front_when_starved: bool = False,
    on_success: Reference | None = None,
    on_failure: Reference | None = None,
    retry_on: ErrorClasses | None = None,
    discard_on: ErrorClasses | None = None,
    backoff: bool | Mapping[str, Any] | None = None,
    atomic: bool | None = None,
    event: str | None = None,
    track_job: bool = True,
    created_by: Person | None = UNSAID,
    expires: dt.datetime | dt.timedelta | None = None,
    after: TaskLog | str | int | None = None,
    arguments: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> TaskLog | MaybeNone:
    """Store a task and return its row; it runs after the commit, as soon as it may.

    The row is inserted in the caller's transaction: a rollback leaves nothing, and the
    broker may be down. ``method`` is a function, a Celery task or a dotted path.

    ``queue``: one of ``TASKCONTROL["QUEUES"]`` or short, default, long. ``timeout``: seconds
    the body may run. ``max_retries``: automatic retries after a failure; ``retry_delay``:
    seconds (or a timedelta) from the failure to the retry, None = at the next pass. None of
    these takes the value of the task's type, then of its queue.

    ``priority``: higher first, None = the type's. ``at_front``: before all others of its
    queue. ``run_at``: not before this time (a timedelta counts from now). ``expires``: not
    to be started after it. ``paused``: held back until resumed. ``job_name``: a label,
    default the method. ``event``: a label to filter by. ``batch_id``, ``batch_order``: the
    batch that it belongs to, and its place there. ``job_id``: your own name for it.
    ``deduplicate``: no second task under this ``job_id`` (or else ``job_name``) before the
    first has ended; the call then returns None. ``on_duplicate`` says otherwise: "return"
    the first, "replace" its arguments while it waits, or one more that is "trailing" the
    one that runs.
    ``created_by``: the user it runs as; default the request's user or the enqueuing task's.

    What the function takes is given by keyword, or in ``arguments=`` (which wins), where a
    name may equal one of the options above.

    Raises a ValueError (``InvalidCall``) with a sentence for everything that cannot run:
    no such method, arguments that do not fit, cannot be stored or are too large, an unknown
    queue; PermissionError when nothing allows the method to run.
    """
    given = said(locals())
    here = now or is_async is False
    with apart() if enqueue_after_commit is False and not here else nullcontext():
        stored = _store(Draft(method, given, kwargs))
    if here and stored.rows:
        return inline.run(stored.rows[0])
    crashpoints.reached("enqueue.rung")
    return stored.answers[0]


def _store(draft: Draft) -> Admission:
    with _together(draft):
        admission = admit([draft], Draft.row)
        admission.holds.extend(hold_documents([(draft, admission.answers[0])]))
        if draft.form.is_limited and not draft.runs_here:
            draft.glance.refuse_overload(admission.rows)
        for row in admission.rows:
            if row.batch_id is not None:
                batches.grow(row.batch_id, 1, created_by=draft.creator)
            crashpoints.reached("enqueue.checked")
            _insert().run(conf.DATABASE, row)
            crashpoints.reached("enqueue.inserted")
            if draft.is_ready:
                request_dispatch()
        if not admission.rows and draft.values["batch_id"] is not None:
            # A duplicate is no member; a batch of nothing but duplicates ends all the same.
            batches.grow(draft.values["batch_id"], 0, created_by=draft.creator)
        admission.give_keys()
        if draft.runs_here:
            for row in admission.rows:
                inline.begin(row)
    return admission


def _together(draft: Draft) -> AbstractContextManager[Any]:
    """Return a transaction round all that a call writes; none is needed for one INSERT."""
    alone = not draft.may_be_refused and not draft.runs_here
    if alone and connections[conf.DATABASE].get_autocommit():
        return nullcontext()
    return brief(savepoint=draft.may_be_refused, swift=True)


@cache
def _insert() -> PreparedInsert:
    return PreparedInsert(TaskLog)


def bulk_enqueue(  # noqa: PLR0913 - as above
    tasks: Iterable[Mapping[str, Any]],
    batch_id: str | None = None,
    *,
    method: Reference | None = None,
    queue: str | None = None,
    timeout: Duration | None = None,
    job_name: str | None = None,
    document_type: type[Model] | Model | str | None = None,
    document_name: Any = None,
    document_action: str | None = None,
    max_retries: int | None = None,
    retry_delay: Duration | None = None,
    at_front: bool = False,
    call_whitelisted_function: bool = False,
    batch_order: int | None = None,
    paused: bool = False,
    run_at: dt.datetime | dt.timedelta | None = None,
    priority: int | None = None,
    job_id: str | None = None,
    deduplicate: bool = False,
    on_duplicate: OnDuplicate | None = None,
    enqueue_after_commit: bool = True,
    now: bool = False,
    is_async: bool = True,
    at_front_when_starved: bool = False,
    on_success: Reference | None = None,
    on_failure: Reference | None = None,
    retry_on: ErrorClasses | None = None,
    discard_on: ErrorClasses | None = None,
    backoff: bool | Mapping[str, Any] | None = None,
    atomic: bool | None = None,
    event: str | None = None,
    track_job: bool = True,
    created_by: Person | None = UNSAID,
    expires: dt.datetime | dt.timedelta | None = None,
    after: TaskLog | str | int | None = None,
    arguments: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> str:
    """Store many tasks as one batch in one transaction with one bell; return the batch id.

    ``tasks`` yields dicts of what ``enqueue`` takes (``method``, options, arguments);
    a generator is read in chunks. What is given by keyword holds for every task; a task's
    own keys beat it. ``batch_order`` counts from 0 unless a task says otherwise. If one task
    is refused, nothing is stored, and the error names its place. Duplicates are left out,
    and the batch counts without them.
    """
    shared = {**kwargs, **said(locals()), "method": method}
    batch_id = str(shared.pop("batch_id", None) or uuid.uuid4())
    with apart() if enqueue_after_commit is False else nullcontext():
        _store_many(tasks, batch_id, shared)
    crashpoints.reached("bulk.rung")
    return batch_id


def _store_many(
    tasks: Iterable[Mapping[str, Any]], batch_id: str, shared: Mapping[str, Any]
) -> None:
    count, glance = 0, Glance()
    with brief(alone=False) as whole:
        position = microseconds_now(conf.DATABASE)
        made = EPOCH + dt.timedelta(microseconds=position)
        together = {"created_at": made, "position": position}
        for chunk in _chunks(_drafts(tasks, batch_id, shared, glance)):
            admission = admit(chunk, lambda draft: _member_row(draft, together))
            calls = zip(chunk, admission.answers, strict=True)
            admission.holds.extend(hold_documents(calls))
            if any(draft.form.is_limited for draft in chunk):
                glance.refuse_overload(admission.rows)
            if admission.holds:
                TaskLog.objects.bulk_create(admission.rows, batch_size=CHUNK)
            else:
                _insert().run_many(conf.DATABASE, admission.rows)
            crashpoints.reached("bulk.inserted")
            admission.give_keys()
            count += len(admission.rows)
        whole.alone = True  # the caller's iterable is read
        batches.grow(
            batch_id, count, created_by=creator_of(shared.get("created_by", UNSAID))
        )
        request_dispatch()
        crashpoints.reached("bulk.whole")


def _drafts(
    tasks: Iterable[Mapping[str, Any]],
    batch_id: str,
    shared: Mapping[str, Any],
    glance: Glance,
) -> Iterator[Draft]:
    common = {name: shared[name] for name in OPTIONS & shared.keys()}
    arguments = {name: shared[name] for name in shared.keys() - OPTIONS - {"method"}}
    for number, own in enumerate(as_iterable(tasks)):
        place = {"batch_id": batch_id, "batch_order": number}
        try:
            if type(own) is dict and _WORDS.isdisjoint(own):
                options = {**place, **common, "batch_id": batch_id}
                given = {**arguments, **own}
                _refuse_here(options)
                yield Draft(shared["method"], options, given, said=shared, glance=glance)
            else:
                yield _member(own, shared, place, glance)
        except Exception as error:
            error.add_note(f"This was task {number} of bulk_enqueue; nothing was stored.")
            raise


#: What a task of a bulk may say that is no argument.
_WORDS = OPTIONS | {"method"}


def as_iterable(tasks: Any) -> Iterable[Mapping[str, Any]]:
    """Return ``tasks`` if a bulk can read them; raise InvalidCall otherwise."""
    if isinstance(tasks, Iterable) and not isinstance(tasks, str | Mapping):
        return tasks
    raise InvalidCall(
        "bulk_enqueue() takes an iterable of dicts, each of what enqueue() takes, not "
        f"{tasks!r}."
    )


def _member(
    own: Mapping[str, Any],
    shared: Mapping[str, Any],
    place: Mapping[str, Any],
    glance: Glance,
) -> Draft:
    if not isinstance(own, Mapping):
        raise InvalidCall(f"A task is a dict of what enqueue() takes, not {own!r}.")
    given = {**place, **shared, **own, "batch_id": place["batch_id"]}
    method = given.pop("method", None)
    options = {name: given.pop(name) for name in OPTIONS & given.keys()}
    if str(own.get("batch_id") or place["batch_id"]) != place["batch_id"]:
        raise InvalidCall(
            f"bulk_enqueue stores one batch, {place['batch_id']!r}, and this task names "
            f"{own['batch_id']!r}; enqueue it by a call of its own."
        )
    if own.get("enqueue_after_commit") is False:
        raise InvalidCall(
            "enqueue_after_commit=False holds for all tasks of bulk_enqueue, or for none."
        )
    _refuse_here(options)
    return Draft(method, options, given, said={*shared, *own}, glance=glance)


def _refuse_here(options: Mapping[str, Any]) -> None:
    if options.get("now") is True or options.get("is_async") is False:
        raise InvalidCall(
            "bulk_enqueue stores tasks for workers; to run them here and now, call enqueue "
            "with now=True for each."
        )


def _member_row(draft: Draft, together: Mapping[str, Any]) -> TaskLog:
    """Return a row of plain values: what the database has to compute makes INSERTs slow."""
    ahead = {
        column: together["created_at"] + draft.options[option]
        for option, column in _TIMES
        if isinstance(draft.options.get(option), dt.timedelta)
    }
    return draft.row(**together, **ahead)


#: Options of a time, and their columns.
_TIMES = (("run_at", "run_at"), ("expires", "expires_at"))


def _chunks(drafts: Iterator[Draft]) -> Iterator[list[Draft]]:
    """Yield so many at a time, and from the first with a key on all.

    Keys are locked in their order, lest two calls wait for each other.
    """
    while chunk := list(itertools.islice(drafts, CHUNK)):
        if any(draft.keys for draft in chunk):
            chunk += drafts
        yield chunk
