"""The sizes at which the dispatcher is driven: one thing differs from line to line."""

from __future__ import annotations

from typing import NamedTuple


class Scene(NamedTuple):
    """How many of what there are."""

    workers: int = 100
    #: Slots of each worker.
    slots: int = 32
    types: int = 1000
    #: Types with a limit.
    limited: int = 50
    waiting: int = 100_000
    #: The setting DISPATCH_PAGE.
    page: int = 500
    #: Passes that are measured.
    passes: int = 30
    #: Months that the ledger keeps, a partition each; 0: it is one table.
    months: int = 0

    @property
    def places(self) -> int:
        """Slots of all workers."""
        return self.workers * self.slots

    def small(self) -> Scene:
        """Return a scene that takes a second: whether everything runs."""
        return self._replace(
            workers=max(2, self.workers // 100),
            slots=4,
            types=min(self.types, 10),
            limited=min(self.limited, 2),
            waiting=max(100, self.waiting // 1000),
            page=min(self.page, 20),
            passes=3,
        )


USUAL = Scene()
SCENES = (
    USUAL._replace(workers=10, slots=16),
    USUAL._replace(slots=16),
    USUAL,
    USUAL._replace(workers=1000, passes=15),
    USUAL._replace(workers=1000, page=2000, passes=10),
    USUAL._replace(types=10, limited=1),
    USUAL._replace(types=1, limited=0),
    USUAL._replace(months=12),
    USUAL._replace(waiting=1_000_000),
)
#: Databases with a dispatcher each; then as many dispatchers in one database.
SHARDS = (1, 2, 4)
#: What each shard is: small enough that four are built in a minute.
SHARD = USUAL._replace(waiting=40_000)
#: Seconds for which the shards are driven.
SHARD_SECONDS = 10.0
