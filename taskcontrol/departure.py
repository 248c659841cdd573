"""How a worker leaves: it writes what its bodies came to before it gives back what it holds."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from celery.worker import state

if TYPE_CHECKING:
    from .deck import Deck
    from .worker import Boot

logger = logging.getLogger("taskcontrol")

#: Seconds for which the ends of bodies that have returned are tried: as long as a child tries
#: its own (``ends.END_PAUSES``, three times).
LONGEST = 45.0
#: The same in a worker that is stopped cold.
LONGEST_COLD = 5.0
#: Seconds that are not worth a word, and those for what nobody waits for.
SHORT = 1.0
#: Seconds between two looks whether all is written.
LOOK = 0.1


class Departure:
    """The time between the end of a worker's pool and that of its process.

    Nothing runs any more. The keeper goes on: nobody takes the worker for lost meanwhile, and
    some of the ends are errands of its.
    """

    def __init__(self, boot: Boot) -> None:
        self.boot = boot
        #: Whether the pool has ended, so that a signal that comes now is one more.
        self.has_begun = False
        self._insisted = False

    def insist(self) -> None:
        """A signal has come; one more than was needed ends this. A signal handler calls it."""
        self._insisted = self.has_begun

    def write_ends(self) -> None:
        """Let the hands hear what the children said last, and let that be written."""
        self.has_begun = True
        hands, threads = self.boot.hands, self.boot.by_hand
        if hands is None or not threads:
            return
        hands.stop()
        threads[0].join(timeout=5)
        self._wait(hands.deck)
        hands.journal.stop(within=SHORT)
        threads[1].join(timeout=2 * SHORT)

    def _wait(self, deck: Deck) -> None:
        longest = LONGEST_COLD if state.should_terminate else LONGEST
        if self._is_written(deck, SHORT):
            return
        logger.warning(
            "The bodies of this worker are over, and the ends of %s tasks cannot be written: the "
            "database is away, or somebody holds their rows. It stays for at most %g s until "
            "they are; another signal ends it at once.",
            len(deck.unwritten()),
            longest,
        )
        if not self._is_written(deck, longest):
            left = sorted(task_id for task_id, _ in deck.unwritten())
            logger.error(
                "This worker leaves although the ends of %s tasks are not written: they run "
                'again, or fail with on_lost="fail". The first are: %s.',
                len(left),
                ", ".join(map(str, left[:20])),
            )

    def _is_written(self, deck: Deck, within: float) -> bool:
        """Wait until every end is written, and return whether it is; not when somebody insists."""
        until = time.monotonic() + within
        while deck.unwritten() and not self._insisted and time.monotonic() < until:
            time.sleep(LOOK)
        return not deck.unwritten()
