"""Makes a pass: Pending tasks become Queued, under limits, order, pauses and slots."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, Protocol

from django.db import transaction
from django.db.models import F, Q

from . import broker, closures, crashpoints, following, lifecycle
from .brief import bounds, brief
from .choosing import choose, rated
from .conf import conf
from .context import without_user_code
from .deck import Offer
from .dialect import free_keys, locks_in_updates, skip_locked
from .exceptions import BrokerUnavailable
from .fronts import look, open_lanes, read_fronts, waiting_lanes
from .lanes import ready_lane
from .lifecycle import Card
from .models import DispatcherState, TaskLog
from .prepared import PreparedSearch, padded
from .retries import retry_failed_tasks
from .settling import held_batches, settle_batches
from .status import Status
from .suspension import can_dispatch_now, dispatcher_state, toggle_dispatcher
from .turns import State, coming, sign, take_turn

__all__ = ["can_dispatch_now", "dispatch_pending", "toggle_dispatcher"]


def dispatch_pending() -> int:
    """Make one pass: promote what may run now, send it, and return how many were promoted.

    Begins with ``retry_failed_tasks()`` where a retry is due. Safe to run anywhere, any number at once: passes
    take turns at the dispatcher's row. When the broker does not take the messages, the
    tasks go back to Pending and BrokerUnavailable is raised.
    """
    return make_pass().promoted


class Pass(NamedTuple):
    """What one pass did."""

    promoted: int
    #: Whether short tasks wait in the broker: the slots are fed until the next pass.
    ahead: bool


class Hands(Protocol):
    """A worker's own children, to which a pass of this worker gives without the broker."""

    def offer(self) -> Offer | None:
        """Return what it would take now; None if nothing."""

    def take(self, cards: Sequence[Card], offer: Offer) -> None:
        """Take what was promoted and claimed for it."""


def make_pass(hands: Hands | None = None) -> Pass:
    """Do what ``dispatch_pending`` does, and tell a little more."""
    count, settled, careful = 0, False, False
    with without_user_code():
        while True:
            turn = _retry_and_promote(hands, careful=careful)
            careful = turn.passed_over
            if turn.claimed and turn.offer is not None and hands is not None:
                hands.take(turn.claimed, turn.offer)
            if turn.broker_error:
                if turn.alone and not _is_time_to_ask():
                    return Pass(count + len(turn.claimed), turn.ahead)
                _ask_for_the_broker(turn)
                continue
            if turn.open_batches and not settled:
                # Before the broker is asked to take messages: batches end without it.
                settle_batches()
                settled = True
            if turn.promoted:
                _send(turn.promoted)
            count += len(turn.promoted) + len(turn.claimed)
            if not (turn.more or turn.passed_over):
                return Pass(count, turn.ahead)


#: Seconds between two questions whether the broker is back, of who can do without it.
ASK_EVERY = 5.0
_asked_at = float("-inf")


def _is_time_to_ask() -> bool:
    """Return whether it is time to see if the broker is back; the answer may take seconds."""
    global _asked_at
    now = time.monotonic()
    if now - _asked_at < ASK_EVERY:
        return False
    _asked_at = now
    return True


def _ask_for_the_broker(turn: Turn) -> None:
    """After a pass that could not send: raise BrokerUnavailable while that is still so."""
    try:
        broker.check()
    except BrokerUnavailable:
        if turn.open_batches:
            settle_batches()
        raise
    _note_broker("")


@dataclass
class Turn:
    """What one turn at the dispatcher's row brought."""

    promoted: Sequence[TaskLog] = ()
    #: What this worker's own children run, and what was offered for them.
    claimed: Sequence[Card] = ()
    offer: Offer | None = None
    #: Whether retries are due: they are made first, and the turn is taken again.
    retries: bool = False
    #: Whether this worker's own children can be given work without the broker.
    alone: bool = False
    #: Some lane was read only in part: its rest may come before what others hold.
    more: bool = False
    #: Some of the first rows were being changed by others: the next turn looks behind them.
    passed_over: bool = False
    #: Whether short tasks were sent ahead of a free slot, now or before.
    ahead: bool = False
    #: Why the last messages were not sent: the broker is asked before more are promoted.
    broker_error: str = ""
    #: Whether some batch may have to be ended or held back.
    open_batches: bool = False
    #: What keeps the rest waiting: see ``closures.py``.
    closed: Collection[str] = ()
    #: How many were promoted of types with a rate, by method and rate.
    rated: Mapping[tuple[str, str], int] = field(default_factory=dict)


def _retry_and_promote(hands: Hands | None, *, careful: bool) -> Turn:
    """Move what is to be retried first: it takes its place among what waits."""
    turn = _take_turn_and_promote(hands, careful=careful)
    if not turn.retries:
        return turn
    retry_failed_tasks()
    # What cannot be moved stays.
    return _take_turn_and_promote(hands, careful=careful, retried=True)


def _take_turn_and_promote(
    hands: Hands | None, *, careful: bool, retried: bool = False
) -> Turn:
    with brief(swift=True):
        state = take_turn()
        if state is not None and state.retrying is not None and not retried:
            return Turn(retries=True)
        if state is not None:
            return _use_turn(state, hands, careful=careful)
    # Made outside of the pass: where two make it at once, MariaDB keeps a lock of the second.
    dispatcher_state()
    return _take_turn_and_promote(hands, careful=careful, retried=retried)


def _use_turn(state: State, hands: Hands | None, *, careful: bool) -> Turn:
    if state.expiring:
        lifecycle.expire(conf.SWEEP_PAGE)
    if state.coming:
        _let_in()
    freed = following.let_go() if state.following else 0
    turn = Turn()
    if state.suspended:
        turn.closed = state.was_closed.keys()  # nobody looked
    elif state.waiting or state.coming or freed:
        offer = hands.offer() if hands is not None else None
        if offer is not None or not state.broker_error:
            turn = _promote(state, offer, careful=careful)
        if state.broker_error:
            turn.closed = {*turn.closed, closures.BROKER}
        turn.broker_error = state.broker_error
        turn.alone = hands is not None
    moved = bool(turn.promoted or turn.claimed)
    signed = sign(state, promoted=moved, closed=turn.closed, rated=turn.rated)
    if state.idle and not signed:
        # The lock alone would let a commit of PostgreSQL wait for the disk.
        transaction.set_rollback(True, using=conf.DATABASE)
    turn.open_batches = state.open_batch is not None
    return turn


def _promote(state: State, offer: Offer | None, *, careful: bool) -> Turn:
    crashpoints.reached("dispatch.taken")
    # Where the last pass found no slot, it is likely that nobody asks for the lanes.
    occupancy, heads = look(at_lanes=closures.POOL not in state.was_closed)
    occupancy.slots.aside = offer
    if not occupancy.slots.any_left():
        closed = closures.while_full(occupancy.slots, state.was_closed)
        return Turn(ahead=occupancy.slots.ahead, closed=closed)
    waiting = waiting_lanes(heads, occupancy, state.sends)
    lanes = open_lanes(waiting, occupancy.slots)
    fronts = read_fronts(lanes, occupancy.slots)
    slots = deepcopy(occupancy.slots)
    away = bool(state.broker_error)
    chosen, more = choose(fronts, slots, broker_away=away)
    held = held_batches() if state.open_batch else []
    careful = careful or bool(held) or not locks_in_updates(conf.DATABASE)
    if careful and len(free := _lock(chosen, held)) < len(chosen):
        # Somebody is changing some of the first rows, or their batch is held back: others
        # take their places.
        fronts = read_fronts(lanes, occupancy.slots, beyond=conf.DISPATCH_PAGE)
        free = _lock((front.task_id for front in fronts.rows), held)
        rows = [front for front in fronts.rows if front.task_id in free]
        slots = occupancy.slots
        chosen, more = choose(fronts._replace(rows=rows), slots, broker_away=away)
    closed = closures.after_choosing(waiting, fronts, chosen, slots)
    crashpoints.reached("dispatch.locked")
    turn = _move(chosen, slots.aside, state.site)
    moved = {*(task.pk for task in turn.promoted), *(card.pk for card in turn.claimed)}
    turn.passed_over = not careful and len(moved) < len(chosen)
    turn.more = more and bool(moved)
    turn.ahead, turn.closed = slots.ahead, closed
    turn.rated = rated(fronts, moved)
    return turn


def _move(chosen: Sequence[int], offer: Offer | None, site: str) -> Turn:
    """Promote the chosen: claimed for this worker what it has taken, the others to be sent."""
    mine = offer.taken if offer is not None else {}
    sent = [task_id for task_id in chosen if task_id not in mine]
    turn = Turn(lifecycle.promote(sent, site=site))
    if offer is not None and mine:
        own = [task_id for task_id in chosen if task_id in mine]
        turn.offer = offer
        turn.claimed = lifecycle.promote_and_claim(
            own, site=site, worker_id=offer.worker_id
        )
    place = {task_id: number for number, task_id in enumerate(chosen)}
    turn.promoted = sorted(turn.promoted, key=lambda task: place[task.pk])
    turn.claimed = sorted(turn.claimed, key=lambda card: place[card.pk])
    return turn


def _let_in() -> None:
    """Put the tasks whose ``run_at`` has come into their lanes."""
    due = coming().order_by("run_at")
    ids = free_keys(due[: conf.DISPATCH_PAGE * 10])
    TaskLog.objects.filter(pk__in=ids, status=Status.PENDING).update(
        ready_lane=ready_lane(), rev=F("rev") + 1
    )


def _lock(ids: Iterable[int], held: Sequence[str]) -> set[int]:
    """Lock these rows, without those that somebody is changing or whose batch is held."""
    ids = list(ids)
    if not ids:
        return set()
    if held:
        rows = _pending(ids).filter(Q(batch_id=None) | ~Q(batch_id__in=held))
        return set(free_keys(rows))
    size, given = padded(ids)
    bound = [one.template for one in bounds(conf.DATABASE)]
    return {key for key, *_ in _locking(size).rows(conf.DATABASE, given, *bound)}


@cache
def _locking(size: int) -> PreparedSearch:
    def build(p: Any) -> Any:
        rows = _pending([p(f"id{n}", "id") for n in range(size)])
        return skip_locked(rows).values_list("pk", *bounds(conf.DATABASE))

    return PreparedSearch(TaskLog, build)


def _pending(ids: Sequence[Any]) -> Any:
    return TaskLog.objects.filter(pk__in=ids, status=Status.PENDING).order_by("pk")


def _send(promoted: Sequence[TaskLog]) -> None:
    """Publish after the commit; what the broker does not take goes back to Pending."""
    messages = [
        broker.Message(
            task.pk, task.attempt, task.queue, str(task.celery_task_id), task.timeout
        )
        for task in promoted
    ]
    crashpoints.reached("dispatch.committed")
    try:
        broker.publish(messages)
    except BrokerUnavailable as error:
        crashpoints.reached("dispatch.refused")
        lifecycle.unsend(
            [(one.task_id, one.attempt) for one in messages], detail=str(error)
        )
        crashpoints.reached("dispatch.unsent")
        _note_broker(str(error))
        raise
    crashpoints.reached("dispatch.sent")


def _note_broker(error: str) -> None:
    """Show on the dispatcher's row why nothing is sent; empty when all is well."""
    DispatcherState.objects.filter(pk=DispatcherState.THE_ONE).update(
        broker_error=error[:300]
    )
