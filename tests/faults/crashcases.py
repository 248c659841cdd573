"""Every case of a crash at a named point: who comes there, and what stands in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.faults import crashstories as stories
from tests.faults.tiers import TIER
from tests.lab import LAB

FLAGS = LAB / "crashpoints"
#: The worker whose children die, and which outlives them.
CHILDREN = "children"
#: Workers that give to their own children without the broker, alone with their cases: one whose
#: children die, and one that dies.
DECKS = (DECK_OF_CHILDREN, DECK) = ("deck of children", "deck")
#: The worker that sleeps, with all of its children: as on a machine that is paused.
SLEEPER = "sleeps"


@dataclass(frozen=True)
class Case:
    """One kind of death at one point."""

    point: str
    kind: str
    story: type[stories.Story]
    #: The statuses of its tasks just after it; None where they may be this or that.
    now: str | None
    #: The statuses in the end.
    end: str
    #: What each of its tasks then has.
    each: dict[str, int] = field(compare=False)
    #: The messages in the broker just after it.
    sent: int | None
    #: For ``stop``: whether others bring it to its end before it is woken.
    without_it: bool
    #: Which worker dies, if one does.
    worker: str

    def __str__(self) -> str:
        return f"{self.point}-{self.kind}-{self.story.__name__}"

    @property
    def queue(self) -> str:
        """The queue that only this case uses."""
        return f"c{CASES.index(self)}"

    @property
    def flag(self) -> Path:
        """The file that says that the point was reached."""
        return FLAGS / str(self)

    @property
    def spec(self) -> str:
        """What the process gets."""
        return f"{self.point}={self.kind}:{self.flag}"

    @property
    def log(self) -> Path:
        """What a victim said."""
        return FLAGS / f"{self}.log"

    @property
    def ends_worker(self) -> bool:
        """Whether it is the main process of a worker that dies."""
        lives_on = {"", CHILDREN, DECK_OF_CHILDREN, SLEEPER}
        return self.kind == "kill" and self.worker not in lives_on


def at(
    points: str,
    kinds: str,
    story: type[stories.Story],
    now: str | None,
    end: str,
    *,
    sent: int | None = None,
    without_it: bool = True,
    worker: str = "",
    each: dict[str, int] | None = None,
) -> list[Case]:
    """Return a case for each kind at each point."""
    return [
        Case(point, kind, story, now, end, each or {}, sent, without_it, worker)
        for point in points.split()
        for kind in kinds.split()
    ]


NOTHING = ""
ONCE = {"attempt": 1, "retry_count": 0, "lost_count": 0}
AGAIN = {"attempt": 2, "retry_count": 0, "lost_count": 0}
LOST = {"attempt": 2, "retry_count": 0, "lost_count": 1}
RETRIED = {"attempt": 2, "retry_count": 1, "lost_count": 0}
NEVER = {"attempt": 0, "retry_count": 0, "lost_count": 0}
UNDISTURBED = {"retry_count": 0, "lost_count": 0}
NEVER_LOST = {"lost_count": 0}
NEVER_RETRIED = {"retry_count": 0}

# fmt: off
FORKED = [
    # Nothing exists before the COMMIT; after it the task runs, whoever knows of it.
    *at("enqueue.checked", "kill error", stories.Enqueue, NOTHING, NOTHING),
    *at("enqueue.inserted", "kill error", stories.EnqueueInTransaction, NOTHING, NOTHING),
    *at("enqueue.inserted", "stop", stories.EnqueueInTransaction, NOTHING, "1 Finished", without_it=False, each=ONCE),
    *at("enqueue.inserted", "kill error", stories.Enqueue, "1 Pending", "1 Finished", each=ONCE),
    *at("bell.wanted", "kill error broker", stories.Enqueue, "1 Pending", "1 Finished", each=ONCE),
    *at("enqueue.rung", "kill error", stories.Enqueue, "1 Pending", "1 Finished", each=ONCE),
    *at("bulk.inserted bulk.whole", "kill error", stories.Bulk, NOTHING, NOTHING),
    *at("bulk.rung", "kill error", stories.Bulk, "3 Pending", "3 Finished", each=ONCE),
    # A turn that is not committed leaves nothing; a message that is not sent is sent again.
    *at("dispatch.taken dispatch.locked moved.queued", "kill error", stories.Dispatch, "3 Pending", "3 Finished", sent=0, each=ONCE),
    *at("dispatch.committed publish.prepared", "kill error stop", stories.Dispatch, "3 Queued", "3 Finished", sent=0, each=ONCE),
    *at("dispatch.sent", "kill error", stories.Dispatch, "3 Queued", "3 Finished", sent=3, each=ONCE),
    *at("dispatch.taken dispatch.committed publish.prepared dispatch.sent", "broker", stories.Dispatch, None, "3 Finished", each=UNDISTURBED),
    *at("dispatch.refused", "kill error", stories.DispatchWithoutBroker, "3 Queued", "3 Finished", sent=0, each=ONCE),
    *at("dispatch.unsent", "kill error", stories.DispatchWithoutBroker, "3 Pending", "3 Finished", sent=0, each=AGAIN),
    # A sweep that dies is made again by the next one; each thing counts once.
    *at("retries.found", "kill error stop", stories.RetrySweep, "3 Failed", "3 Finished", each=RETRIED),
    *at("retries.archived moved.pending", "kill", stories.RetrySweep, "3 Failed", "3 Finished", each=RETRIED),
    *at("retries.archived moved.pending", "error", stories.RetrySweep, "3 Pending", "3 Finished", each=RETRIED),
    *at("retries.moved", "kill error", stories.RetrySweep, "3 Pending", "3 Finished", each=RETRIED),
    *at("rescue.declared", "kill error", stories.Rescue, "3 Started", "3 Finished", each=LOST),
    *at("rescue.locked", "kill", stories.Rescue, "3 Started", "3 Finished", each=LOST),
    *at("rescue.locked", "error", stories.Rescue, "2 Pending 1 Started", "3 Finished", each=LOST),
    *at("rescue.moved", "kill error", stories.Rescue, "1 Pending 2 Started", "3 Finished", each=LOST),
    *at("rescue.locked rescue.moved", "kill error", stories.Release, "3 Canceled", "3 Canceled", each=ONCE),
    *at("resend.found resend.counted publish.prepared", "kill error stop", stories.Resend, "3 Queued", "3 Finished", sent=0, each=ONCE),
    *at("resend.taken", "kill error", stories.Resend, "3 Queued", "3 Finished", sent=0, each=ONCE),
    *at("resend.counted", "broker", stories.Resend, "3 Queued", "3 Finished", each=ONCE),
    *at("resend.sent", "kill error", stories.Resend, "3 Queued", "3 Finished", sent=3, each=ONCE),
    # By hand: what is written is written, what is not has not happened.
    *at("moved.canceled", "kill error", stories.Cancel, "1 Pending", "1 Finished", each=ONCE),
    *at("cancel.written", "kill error broker", stories.Cancel, "1 Canceled", "1 Canceled", each=NEVER),
    *at("moved.canceled", "kill error", stories.Expire, "1 Pending", "1 Canceled", each=NEVER),
    *at("moved.pending", "kill error", stories.Retry, "1 Failed", "1 Failed", each=ONCE),
    *at("retry.written", "kill error", stories.Retry, "1 Pending", "1 Finished", each=RETRIED),
    *at("moved.paused", "kill error", stories.Pause, "1 Pending", "1 Finished", each=ONCE),
    *at("moved.pending", "kill error", stories.Resume, "1 Paused", "1 Paused", each=NEVER),
    # The time of a schedule and its task are one transaction.
    *at("schedule.due", "kill error stop", stories.Fire, NOTHING, "1 Finished", each=ONCE),
    *at("schedule.taken schedule.made", "kill error", stories.Fire, NOTHING, "1 Finished", each=ONCE),
    *at("schedule.fired", "kill error", stories.Fire, "1 Pending", "1 Finished", each=ONCE),
    # So are the end of a batch and the task of its callback.
    *at("batch.over batch.called", "kill error", stories.Settle, NOTHING, "1 Finished", each=ONCE),
    *at("batch.settled", "kill error", stories.Settle, "1 Pending", "1 Finished", each=ONCE),
    *at("batch.holding moved.paused", "kill error", stories.Hold, "2 Pending 1 Failed", "2 Paused 1 Failed"),
    # News are told at least once.
    *at("news.stored news.taken news.told", "kill error", stories.News, "1 Finished", "1 Finished", each=ONCE),
    # Who sleeps over what it has locked loses that after a while.
    *at("retries.archived moved.pending", "stop", stories.RetrySweep, "3 Failed", "3 Finished", each=RETRIED),
    *at("rescue.locked", "stop", stories.Rescue, "3 Started", "3 Finished", each=LOST),
    *at("rescue.locked", "stop", stories.Release, "3 Canceled", "3 Canceled", each=ONCE),
    *at("batch.over batch.called", "stop", stories.Settle, NOTHING, "1 Finished", each=ONCE),
    *at("batch.holding moved.paused", "stop", stories.Hold, "2 Pending 1 Failed", "2 Paused 1 Failed"),
    *at("schedule.taken schedule.made", "stop", stories.Fire, NOTHING, "1 Finished", each=ONCE),
    *at("moved.queued", "stop", stories.Dispatch, "3 Pending", "3 Finished", sent=0, each=ONCE),
    *at("resend.taken", "stop", stories.Resend, "3 Queued", "3 Finished", sent=0, each=ONCE),
    *at("moved.canceled", "stop", stories.Cancel, "1 Pending", "1 Finished", each=ONCE),
    *at("moved.canceled", "stop", stories.Expire, "1 Pending", "1 Canceled", each=NEVER),
    *at("moved.pending", "stop", stories.Retry, "1 Failed", "1 Failed", each=ONCE),
    *at("moved.paused", "stop", stories.Pause, "1 Pending", "1 Finished", each=ONCE),
    *at("moved.pending", "stop", stories.Resume, "1 Paused", "1 Paused", each=NEVER),
]

CHILD: Callable[..., list[Case]] = partial(at, now=None, worker=CHILDREN)
OF_CHILDREN = [
    *CHILD("claim.begun", "kill error", stories.Work, end="1 Finished", each=ONCE),
    *CHILD("moved.started", "kill error", stories.WorkThatIsHeard, end="1 Finished", each=ONCE),
    *CHILD("claim.won body.ready body.done", "kill", stories.Work, end="1 Finished", each=LOST),
    *CHILD("claim.won body.done", "error", stories.WorkWithRetry, end="1 Finished", each=RETRIED),
    *CHILD("body.ready", "error", stories.WorkWithRetry, end="1 Finished", each=NEVER_LOST),
    *CHILD("body.ready", "broker", stories.Work, end="1 Finished", each=ONCE),
    *CHILD("moved.finished", "kill", stories.WorkThatIsHeard, end="1 Finished", each=LOST),
    *CHILD("moved.finished", "error", stories.WorkThatIsHeard, end="1 Finished", each=ONCE),
    *CHILD("moved.failed", "kill", stories.FailureThatIsHeard, end="1 Failed", each=LOST),
    *CHILD("moved.failed", "error", stories.FailureThatIsHeard, end="1 Failed", each=ONCE),
    *CHILD("atomic.ended", "kill", stories.WorkInOneTransaction, end="1 Finished", each=LOST),
    *CHILD("atomic.ended", "error", stories.WorkInOneTransactionWithRetry, end="1 Finished", each=RETRIED),
    *CHILD("held.locked", "kill", stories.WorkInSteps, end="1 Finished", each=LOST),
    *CHILD("end.refused", "kill error", stories.WorkCanceled, end="1 Canceled", each=ONCE),
    *CHILD("end.written attempt.done", "kill error", stories.Work, end="1 Finished", each=ONCE),
]

# A machine is paused while each of its bodies holds its row: others must get it.
ASLEEP: Callable[..., list[Case]] = partial(at, now=None, worker=SLEEPER)
OF_SLEEPERS = [
    *ASLEEP("moved.started", "stop", stories.WorkThatIsHeard, end="1 Finished", each=ONCE),
    *ASLEEP("moved.finished", "stop", stories.WorkThatIsHeard, end="1 Finished", each=LOST),
    *ASLEEP("moved.failed", "stop", stories.FailureThatIsHeard, end="1 Failed", each=LOST),
    *ASLEEP("atomic.ended", "stop", stories.WorkInOneTransaction, end="1 Finished", each=LOST),
    *ASLEEP("atomic.ended", "stop", stories.WorkFenced, end="1 Finished", each=LOST),
    *ASLEEP("held.locked", "stop", stories.WorkInSteps, end="1 Finished", each=LOST),
]

# The last case of each ends its worker.
WORKER: Callable[..., list[Case]] = partial(at, now=None)
OF_WORKERS = [
    *WORKER("worker.received", "broker kill", stories.Work, end="1 Finished", worker="receives", each=ONCE),
    *WORKER("worker.handed", "kill", stories.Work, end="1 Finished", worker="hands", each=NEVER_RETRIED),
    *WORKER("worker.lost", "error kill", stories.WorkThatKillsItsChild, end="1 Finished", worker="loses", each=LOST),
    *WORKER("worker.stopping", "error kill", stories.WorkCanceled, end="1 Canceled", worker="stops", each=ONCE),
    *WORKER("worker.timed_out", "error", stories.WorkOverTime, end="1 Failed", worker="times", each=ONCE),
    *WORKER("worker.timed_out", "kill", stories.WorkOverTime, end="1 Finished", worker="times", each=LOST),
    *WORKER("worker.left", "kill", stories.WorkLeft, end="1 Finished", worker="leaves", each=AGAIN),
]

# What was claimed for a worker's own children, and had not begun, goes back uncounted.
OF_DECKS = [
    *WORKER("serve.begun", "kill", stories.ShortWork, end="1 Finished", worker=DECK_OF_CHILDREN, each=LOST),
    *WORKER("claim.begun", "error", stories.WorkByHand, end="1 Finished", worker=DECK_OF_CHILDREN, each=ONCE),
    *WORKER("deck.left", "kill", stories.ManyLeft, end="40 Finished", worker=DECK, each=NEVER_RETRIED),
    *WORKER("deck.claimed deck.put journal.ends", "error", stories.ShortWork, end="1 Finished", worker=DECK_OF_CHILDREN, each=NEVER_LOST),
    *WORKER("deck.claimed deck.put", "kill", stories.ShortWork, end="1 Finished", worker=DECK, each=AGAIN),
    *WORKER("journal.begins", "kill", stories.ShortWorkThatLingers, end="1 Finished", worker=DECK, each=AGAIN),
    # Counted as lost if it took so long that its begin was written.
    *WORKER("journal.ends", "kill", stories.ShortWork, end="1 Finished", worker=DECK, each={"attempt": 2, "retry_count": 0}),
    *WORKER("journal.written", "kill", stories.ShortWork, end="1 Finished", worker=DECK, each=ONCE),
]
# fmt: on


#: Points with a neighbor in the same transaction, or with nothing written between the two: who
#: sleeps at either leaves the same.
BESIDE_ANOTHER = "retries.archived batch.over batch.holding schedule.taken publish.prepared"


def in_small_runs(case: Case) -> bool:
    """Return whether CI runs it: not the errors at points where a process also dies.

    Nor those that sleep where a neighbor shows the same.
    """
    if case.kind == "stop":
        return case.point not in BESIDE_ANOTHER.split()
    dies = {one.point for one in FORKED if one.kind == "kill"}
    return case.kind != "error" or case.point not in dies


#: The cases of this run; those in workers follow one upon the other.
CASES = [
    *(case for case in FORKED if TIER or in_small_runs(case)),
    *OF_CHILDREN,
    *OF_SLEEPERS,
    *OF_WORKERS,
    *OF_DECKS,
]
