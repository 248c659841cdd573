"""Workers that exist as rows only: what is sent to them starts and ends by bulk SQL."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

from bench.scale.scenes import Scene

#: Tables that a scene begins with empty.
TABLES = "taskcontrol_tasklog, taskcontrol_worker, taskcontrol_tasktype"
START = """
UPDATE taskcontrol_tasklog task SET status = 'Started', started_at = STATEMENT_TIMESTAMP(),
    worker_id = sent.worker, pid = 1, rev = rev + 1
FROM UNNEST(%s::bigint[], %s::bigint[]) AS sent (id, worker)
WHERE task.id = sent.id AND task.status = 'Queued'
"""
END = """
UPDATE taskcontrol_tasklog SET status = 'Finished', ended_at = STATEMENT_TIMESTAMP(),
    occupies = FALSE, time_taken = INTERVAL '1 second', rev = rev + 1
WHERE id = ANY(%s) AND status = 'Started'
"""


def method(number: int) -> str:
    """Return the name of a type; nothing is ever imported by it."""
    return f"bench.bodies.scale{number}"


def settle(page: int) -> None:
    """Let a pass promote so many at most, and no simulated worker be lost."""
    from django.conf import settings

    own = {"DISPATCH_PAGE": page, "WORKER_LOST_AFTER": 86_400.0}
    settings.TASKCONTROL = {**settings.TASKCONTROL, **own}


class Simulated:
    """Many workers. What the broker's stand-in gets, one of their slots holds from then on."""

    def __init__(self, scene: Scene) -> None:
        import psycopg
        from django.db import connection

        self.scene = scene
        parameters = connection.get_connection_params()
        names = ("host", "port", "user", "password", "dbname")
        given = {name: parameters[name] for name in names if name in parameters}
        self.connection = psycopg.connect(**given, autocommit=True)
        self.workers: Iterator[int] = iter(())
        self.sent: list[int] = []
        self.running: deque[int] = deque()

    def publish(self, messages: Sequence[Any]) -> None:
        """Stand in for the broker: takes every message at no cost."""
        self.sent += [message.task_id for message in messages]

    @contextmanager
    def in_place_of_the_broker(self) -> Iterator[None]:
        """Let the dispatcher send here."""
        from taskcontrol import broker

        real, broker.publish = broker.publish, self.publish
        try:
            yield
        finally:
            broker.publish = real

    def build(self) -> None:
        """Store types, workers and what waits; vacuumed, as autovacuum would have done."""
        from taskcontrol.models import DispatcherState, TaskType

        self.connection.execute(f"TRUNCATE {TABLES}")
        DispatcherState.objects.update(closed={}, sent={})
        types = [
            # Enough for a part of what is promoted, and full most of the time.
            TaskType(
                method=method(number), concurrency_limit=2 * (number < self.scene.limited)
            )
            for number in range(self.scene.types)
        ]
        TaskType.objects.bulk_create(types)
        self.wait(self.scene.waiting)
        self.join()
        self.connection.execute("VACUUM ANALYZE")
        self.connection.execute("CHECKPOINT")

    def join(self) -> None:
        """Let the workers be there."""
        from taskcontrol.models import Worker

        queues = ["short", "default", "long"]
        if not Worker.objects.exists():
            size = self.scene.slots
            workers = [
                Worker(
                    hostname=f"simulated-{number}",
                    pid=number,
                    pool="prefork",
                    pool_size=size,
                    queues=queues,
                    prefetch_off=True,
                )
                for number in range(self.scene.workers)
            ]
            Worker.objects.bulk_create(workers)
        self.workers = cycle(Worker.objects.order_by("pk").values_list("pk", flat=True))

    def wait(self, number: int) -> None:
        """Store tasks that wait, of all types in turns."""
        from bench.ledger import add
        from taskcontrol.lanes import lane_of

        types = range(self.scene.types)
        lanes = ", ".join(str(lane_of("default", method(one), None)) for one in types)
        lane = f"(ARRAY[{lanes}]::bigint[])[n % {self.scene.types} + 1]"
        add(
            number,
            ended=0,
            method=f"'bench.bodies.scale' || n % {self.scene.types}",
            lane=lane,
            ready_lane=lane,
            queue="'default'",
            arguments="'{}'",
            position="n",
            job_id="NULL",
            batch_id="NULL",
        )

    def start(self) -> None:
        """Let a slot take each task that was sent."""
        sent, self.sent = self.sent, []
        if sent:
            workers = list(islice(self.workers, len(sent)))
            self.connection.execute(START, (sent, workers))
            self.running += sent

    def end(self, number: int) -> None:
        """End those that have run for longest."""
        over = [self.running.popleft() for _ in range(min(number, len(self.running)))]
        self.connection.execute(END, (over,))
