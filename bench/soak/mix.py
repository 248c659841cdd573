"""What a site at work asks for: a realistic mix, the same for the same seed."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import taskcontrol
from bench.soak import bodies
from taskcontrol.exceptions import TaskNotFound

#: Running bodies of the type with a limit.
LIMIT = 2
#: Members of a batch, and tasks that are remembered so that one can be canceled.
BATCH, REMEMBERED = 25, 50
now = time.time  # noqa: TID251 - compared with the clock of another process


class Mix:
    """Asks for one thing after the other, as its dice say."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - no secrets
        self.asked: Counter[str] = Counter()
        self._recent: deque[Any] = deque(maxlen=REMEMBERED)
        #: In a hundred calls so many of each.
        self._deeds: dict[Callable[[], int], int] = {
            self.probe: 40,
            self.compute: 20,
            self.wait: 12,
            self.few: 8,
            self.stubborn: 5,
            self.hopeless: 2,
            self.remember: 4,
            self.report: 3,
            self.later: 2,
            self.cancel: 3,
            self.batch: 1,
        }

    def act(self) -> int:
        """Do one thing; return how many tasks it enqueued."""
        deed = self.dice.choices(list(self._deeds), list(self._deeds.values()))[0]
        count = deed()
        self.asked[getattr(deed, "__name__", "")] += 1
        return count

    def _enqueue(self, body: Callable[..., Any], **options: Any) -> int:
        task = taskcontrol.enqueue(body, **options)
        if task is not None:
            self._recent.append(task.pk)
        return 1

    def probe(self) -> int:
        """Ask for what overtakes all else, and tells when it began."""
        return self._enqueue(bodies.noop, asked_at=now(), priority=50)

    def compute(self) -> int:
        """Ask for work, of any priority."""
        return self._enqueue(
            bodies.compute,
            milliseconds=self.dice.expovariate(1 / 5),
            priority=self.dice.randrange(-10, 11),
        )

    def wait(self) -> int:
        """Ask for what mostly waits, now and then for long."""
        return self._enqueue(
            bodies.wait, milliseconds=min(2000, self.dice.expovariate(1 / 60))
        )

    def few(self) -> int:
        """Ask for what has a limit."""
        return self._enqueue(bodies.few, milliseconds=self.dice.uniform(10, 80))

    def stubborn(self) -> int:
        """Ask for what needs a second attempt."""
        return self._enqueue(bodies.stubborn, max_retries=2, retry_delay=1)

    def hopeless(self) -> int:
        """Ask for what fails for good."""
        return self._enqueue(bodies.hopeless, max_retries=1, retry_delay=1)

    def remember(self) -> int:
        """Ask for what leaves a large row."""
        return self._enqueue(bodies.remember, length=self.dice.randrange(100, 20_000))

    def report(self) -> int:
        """Ask for what tells of its progress."""
        return self._enqueue(bodies.report, steps=10)

    def later(self) -> int:
        """Ask for what may not run yet."""
        import datetime as dt

        return self._enqueue(bodies.noop, asked_at=0.0, run_at=dt.timedelta(seconds=5))

    def cancel(self) -> int:
        """Cancel something recent, whether it waits, runs or has ended."""
        if self._recent:
            with suppress(TaskNotFound):
                taskcontrol.cancel(self.dice.choice(self._recent), reason="soak")
        return 0

    def batch(self) -> int:
        """Ask for many at once."""
        members = ({"milliseconds": self.dice.uniform(1, 5)} for _ in range(BATCH))
        taskcontrol.bulk_enqueue(members, method=bodies.compute)
        return BATCH


def declare() -> None:
    """Store the limit."""
    from taskcontrol.models import TaskType

    few = f"{bodies.__name__}.few"
    TaskType.objects.update_or_create(method=few, defaults={"concurrency_limit": LIMIT})
