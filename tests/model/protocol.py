"""The writes of one task as a model: who may do what next, and what must never be seen.

Every write is two steps, a look and a conditional UPDATE, with anything in between; each
condition of ``lifecycle/`` is a guard here that can be left out. Faults have a budget: one
process that dies, one message that is lost, one delivered twice, one live worker that is
declared lost, one body that fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

PENDING, QUEUED, STARTED = "Pending", "Queued", "Started"
FINISHED, CANCELED, FAILED = "Finished", "Canceled", "Failed"
#: Failed, and a retry is due.
DUE = "Failed with a retry due"
ENDED = {FINISHED, CANCELED, FAILED}
MAX_RETRIES, LOST_LIMIT = 1, 1

#: What each UPDATE expects of the row beside its key: a guard that can be left out.
GUARDS = {
    "promote: still pending": "a second dispatcher sends a task that runs",
    "promote: no body in its place": "a retry runs beside the body it follows",
    "claim: still queued": "a second message starts the same attempt",
    "claim: by a worker that is there": "a body begins for which nobody vouches",
    "end: still started": "an end overwrites a cancel",
    "end: same attempt": "a body of the past ends the present one",
    "cancel: status as seen": "a cancel overwrites an end",
    "cancel: the body keeps its place": "a retry runs beside the body it follows",
    "rescue: still started": "a rescue overwrites an end",
    "rescue: same attempt": "a slow sweep takes a task off a healthy worker",
    "unsend: still queued": "a task that runs is sent a second time",
    "retry: still failed": "two sweeps count one retry twice",
    "release: same attempt": "a body of the past frees the place of the present one",
}
#: Follows from the others: nothing is seen without it.
IMPLIED = "release: not on its way"
#: What goes round and mends: each can be left out as well.
SWEEPS = {
    "resend": "a message that is lost is never sent again",
    "rescue": "a task whose worker died never ends",
    "release": "a place stays taken for ever",
    "retry": "a retry that is due never comes",
}


class Left(NamedTuple):
    """How often each of these may still happen."""

    crash: int = 1
    loss: int = 1
    twice: int = 1
    expiry: int = 1
    failure: int = 1
    cancel: int = 1
    by_hand: int = 1
    unsend: int = 1


class Hand(NamedTuple):
    """A process of a worker: idle, with a message (got), in a body (runs), behind it (over)."""

    phase: str = "idle"
    attempt: int = 0
    failed: bool = False
    #: Its worker was declared lost before it could claim, and does not know yet.
    lost: bool = False


class Op(NamedTuple):
    """A look that somebody has taken, whose write is still to come."""

    name: str
    status: str = ""
    attempt: int = 0


class State(NamedTuple):
    """Row, broker, workers and everybody who is about to write."""

    status: str = PENDING
    attempt: int = 0
    occupies: bool = False
    retries: int = 0
    lost: int = 0
    #: Attempts whose messages lie in the broker.
    messages: tuple[int, ...] = ()
    hands: tuple[Hand, ...] = (Hand(), Hand())
    #: Attempts whose worker counts as lost, dead or not.
    graves: frozenset[int] = frozenset()
    ops: tuple[Op, ...] = ()
    #: Attempts whose body has begun.
    begun: tuple[int, ...] = ()
    #: Whether a cancel was answered with yes, and nobody asked for a retry since.
    canceled: bool = False
    left: Left = Left()

    def spend(self, what: str) -> State:
        """Return the state with one less of these to come."""
        return self._replace(
            left=self.left._replace(**{what: getattr(self.left, what) - 1})
        )

    def without(self, op: Op) -> State:
        """Return the state after somebody has written, or died before."""
        ops = list(self.ops)
        ops.remove(op)
        return self._replace(ops=tuple(ops))

    def looking(self, op: Op) -> State:
        """Return the state in which somebody has looked."""
        return self._replace(ops=tuple(sorted((*self.ops, op))))

    def hand(self, old: Hand, new: Hand) -> State:
        """Return the state with one process elsewhere; which of two alike does not matter."""
        hands = list(self.hands)
        hands.remove(old)
        return self._replace(hands=tuple(sorted((*hands, new))))

    def sent(self, attempt: int) -> State:
        """Return the state with one more message."""
        return self._replace(messages=tuple(sorted((*self.messages, attempt))))

    def taken(self, attempt: int) -> State:
        """Return the state with one message less."""
        messages = list(self.messages)
        messages.remove(attempt)
        return self._replace(messages=tuple(messages))


Step = tuple[str, State]


class Wrong(Exception):
    """Something that must never be seen."""


class Protocol:
    """The steps that may follow a state, with some guards and sweeps left out."""

    #: Looks that may be open at the same time.
    AT_ONCE = 2

    def __init__(self, *left_out: str, without: str = "") -> None:
        self._left_out = frozenset(left_out)
        self._without = without

    def _guard(self, name: str, holds: bool) -> bool:
        return holds or name in self._left_out

    def steps(self, state: State) -> Iterator[Step]:
        """Yield every step that may come next, by a sentence; raises Wrong."""
        yield from self._looks(state)
        yield from self._writes(state)
        yield from self._deliveries(state)
        for hand in dict.fromkeys(state.hands):
            yield from self._work(state, hand)
        yield from self._faults(state)

    def _looks(self, state: State) -> Iterator[Step]:
        if len(state.ops) >= self.AT_ONCE:
            return
        left, grave = state.left, state.attempt in state.graves
        seen = Op("", state.status, state.attempt)
        may = {
            "promote": state.status == PENDING
            and self._guard("promote: no body in its place", not state.occupies),
            "resend": state.status == QUEUED and not self._on_its_way(state),
            "unsend": state.status == QUEUED and left.unsend > 0,
            "rescue": state.status == STARTED and grave,
            "release": state.occupies
            and state.status not in {QUEUED, STARTED}
            and (grave or self._nobody_has(state)),
            "retry": state.status == DUE,
            "cancel": state.status not in ENDED and left.cancel > 0,
            "by hand": state.status in {CANCELED, FAILED} and left.by_hand > 0,
        }
        for name, can in may.items():
            if can and name != self._without:
                yield f"{name} looks", state.looking(seen._replace(name=name))

    @staticmethod
    def _on_its_way(state: State) -> bool:
        held = any(
            one.phase == "got" and one.attempt == state.attempt for one in state.hands
        )
        published = any(
            one.name == "publish" and one.attempt == state.attempt for one in state.ops
        )
        return state.attempt in state.messages or held or published

    @staticmethod
    def _nobody_has(state: State) -> bool:
        """A worker's main process frees what none of its children runs."""
        return not any(
            one.attempt == state.attempt and one.phase != "idle" for one in state.hands
        )

    def _writes(self, state: State) -> Iterator[Step]:
        for op in dict.fromkeys(state.ops):
            after = state.without(op)
            write = getattr(self, "_" + op.name.replace(" ", "_"))
            yield f"{op.name} writes", write(after, op)

    def _promote(self, state: State, op: Op) -> State:
        still = self._guard("promote: still pending", state.status == PENDING)
        free = self._guard("promote: no body in its place", not state.occupies)
        if not (still and free):
            return state
        self._must_not_have_ended(state, "promote")
        attempt = state.attempt + 1
        state = state._replace(status=QUEUED, attempt=attempt, occupies=True)
        return state.looking(Op("publish", QUEUED, attempt))

    def _publish(self, state: State, op: Op) -> State:
        return state.sent(op.attempt)

    def _resend(self, state: State, op: Op) -> State:
        return state.sent(op.attempt) if state.messages.count(op.attempt) < 2 else state

    def _unsend(self, state: State, op: Op) -> State:
        if state.left.unsend < 1:
            return state
        after = self._send_back(state, op)
        return state if after is state else after.spend("unsend")

    def _send_back(self, state: State, op: Op) -> State:
        same = state.attempt == op.attempt
        if not (same and self._guard("unsend: still queued", state.status == QUEUED)):
            return state
        self._must_not_have_ended(state, "unsend")
        return state._replace(status=PENDING, occupies=False)

    def _rescue(self, state: State, op: Op) -> State:
        still = self._guard("rescue: still started", state.status == STARTED)
        same = self._guard("rescue: same attempt", state.attempt == op.attempt)
        if not (still and same):
            return state
        self._must_not_have_ended(state, "rescue")
        if state.attempt != op.attempt:
            raise Wrong("a sweep moved an attempt that it had not looked at")
        if state.lost >= LOST_LIMIT:
            return state._replace(status=FAILED, occupies=False)
        return state._replace(status=PENDING, lost=state.lost + 1, occupies=False)

    def _release(self, state: State, op: Op) -> State:
        return self._free(state, op.attempt)

    def _free(self, state: State, attempt: int) -> State:
        same = self._guard("release: same attempt", state.attempt == attempt)
        ended = state.status not in {QUEUED, STARTED}
        if same and self._guard("release: not on its way", ended):
            return state._replace(occupies=False)
        return state

    def _retry(self, state: State, op: Op) -> State:
        if not self._guard("retry: still failed", state.status == DUE):
            return state
        self._must_not_have_ended(state, "retry")
        if state.retries >= MAX_RETRIES:
            raise Wrong("a task was retried more often than it may be")
        return state._replace(status=PENDING, retries=state.retries + 1)

    def _cancel(self, state: State, op: Op) -> State:
        if state.left.cancel < 1:
            return state
        if not self._guard("cancel: status as seen", state.status == op.status):
            return state  # it looks again: another look is among the next steps
        self._must_not_have_ended(state, "cancel")
        keeps = op.status != QUEUED
        if "cancel: the body keeps its place" in self._left_out:
            keeps = False
        return state.spend("cancel")._replace(
            status=CANCELED, occupies=state.occupies and keeps, canceled=True
        )

    def _by_hand(self, state: State, op: Op) -> State:
        if state.status != op.status or state.left.by_hand < 1:
            return state
        return state.spend("by_hand")._replace(status=PENDING, lost=0, canceled=False)

    @staticmethod
    def _must_not_have_ended(state: State, who: str) -> None:
        if state.status in ENDED:
            raise Wrong(f"{who} overwrote {state.status}")

    def _deliveries(self, state: State) -> Iterator[Step]:
        idle = next((one for one in state.hands if one.phase == "idle"), None)
        for attempt in dict.fromkeys(state.messages):
            if idle is not None:
                got = state.hand(idle, Hand("got", attempt))
                yield "a message arrives", got.taken(attempt)
                if state.left.twice:
                    yield "a message arrives and stays", got.spend("twice")

    def _work(self, state: State, hand: Hand) -> Iterator[Step]:
        attempt = hand.attempt
        if hand.phase == "got":
            yield from self._claim(state, hand)
        elif hand.phase == "runs":
            yield "a body returns", state.hand(hand, Hand("over", attempt))
            if state.left.failure:
                over = state.hand(hand, Hand("over", attempt, failed=True))
                yield "a body fails", over.spend("failure")
            if state.status == CANCELED and state.attempt == attempt:
                yield "a body is interrupted", state.hand(hand, Hand("refused", attempt))
        elif hand.phase == "over":
            yield from self._end(state, hand)
        elif hand.phase == "refused":
            yield "a place is freed", self._free(state, attempt).hand(hand, Hand())

    def _claim(self, state: State, hand: Hand) -> Iterator[Step]:
        if not self._guard("claim: by a worker that is there", not hand.lost):
            back = Op("send back", QUEUED, hand.attempt)
            yield "a claim is refused", state.hand(hand, Hand()).looking(back)
            return
        same = state.attempt == hand.attempt
        if not (same and self._guard("claim: still queued", state.status == QUEUED)):
            yield "a claim is refused", state.hand(hand, Hand())
            return
        self._must_not_have_ended(state, "claim")
        if hand.attempt in state.begun:
            raise Wrong("the body of one attempt began twice")
        if hand.lost:
            raise Wrong("a body began under a worker that counts as lost")
        begun = state._replace(
            status=STARTED, begun=tuple(sorted((*state.begun, hand.attempt)))
        )
        yield "a body begins", begun.hand(hand, Hand("runs", hand.attempt))

    def _end(self, state: State, hand: Hand) -> Iterator[Step]:
        still = self._guard("end: still started", state.status == STARTED)
        same = self._guard("end: same attempt", state.attempt == hand.attempt)
        if not (still and same):
            yield "an end is refused", state.hand(hand, Hand("refused", hand.attempt))
            return
        self._must_not_have_ended(state, "end")
        if state.attempt != hand.attempt:
            raise Wrong("a body of the past wrote an end")
        status = FINISHED
        if hand.failed:
            status = DUE if state.retries < MAX_RETRIES else FAILED
        ended = state._replace(status=status, occupies=False)
        yield f"an end is written: {status}", ended.hand(hand, Hand())

    def _faults(self, state: State) -> Iterator[Step]:
        if state.left.loss:
            for attempt in dict.fromkeys(state.messages):
                yield "a message is lost", state.spend("loss").taken(attempt)
        for hand in dict.fromkeys(state.hands):
            holds = hand.phase in {"runs", "over", "refused"}
            if state.left.crash and hand.phase != "idle":
                died = state.spend("crash").hand(hand, Hand())
                graves = {*died.graves, hand.attempt} if holds else died.graves
                yield "a worker dies", died._replace(graves=frozenset(graves))
            if state.left.expiry and hand.phase != "idle":
                yield "a live worker counts as lost", self._expired(state, hand)
        if state.left.crash:
            for op in dict.fromkeys(state.ops):
                yield f"{op.name} dies before it writes", state.spend("crash").without(op)

    @staticmethod
    def _expired(state: State, hand: Hand) -> State:
        state = state.spend("expiry")
        if hand.phase == "got":
            return state.hand(hand, hand._replace(lost=True))
        return state._replace(graves=frozenset({*state.graves, hand.attempt}))


def look_at(state: State) -> None:
    """Raise Wrong for what must never be seen in a state."""
    running = [
        one.attempt
        for one in state.hands
        if one.phase == "runs" and one.attempt not in state.graves
    ]
    if len(running) > 1:
        raise Wrong("two bodies run, and neither worker counts as lost")
    if state.canceled and state.status != CANCELED:
        raise Wrong("a cancel that was answered with yes came to nothing")


def look_at_the_end(state: State) -> None:
    """Raise Wrong if nothing more will happen and the task has not ended."""
    if state.status not in ENDED:
        raise Wrong(f"nothing more will happen, and the task is {state.status}")
    if state.occupies:
        raise Wrong("nothing more will happen, and its place is taken")
