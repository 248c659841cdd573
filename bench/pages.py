"""Times the pages of admin over a full ledger, in a process of its own: ``python -m bench.pages N``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

#: Calls of one page, the best of which counts: other work only makes them slower.
CALLS = 5
TABLE = "taskcontrol_tasklog"


class Cost(NamedTuple):
    """What one page of admin costs."""

    milliseconds: float
    statements: int
    #: Pages of the database that were looked at, in memory or on disk.
    looked_at: int
    #: Statements whose plan reads all tasks from end to end.
    scans: list[str]


#: Searches by keys that an index serves, and those that look through the newest 100,000.
EXACT = (
    *("id:{id}", "{id}", "job:job-400", "batch:batch-7", "batch:big", "doc:INV-500"),
    *("doc:shop.Invoice/INV-500", "user:person-4", "method:bench.bodies.m7", "m7"),
    *("status:failed method:m7", "age>30d", "age<1h"),
)
LOOSE = (
    *("error:ValueError", "error:nowhere", "args.customer.id:77", "args.customer.id:{id}"),
    *("queue:long", "worker:celery@here", "some label", "user:person-4 queue:long"),
)


def pages() -> dict[str, str]:
    """Return the address of each page by the words of the table."""
    return {**lists_of_tasks(), **pages_of_tasks(), **other_pages()}


def address(name: str, *args: Any, **query: str) -> str:
    """Return the address of a page of admin."""
    from django.urls import reverse
    from django.utils.http import urlencode

    url = reverse(f"admin:{name}", args=args)
    return f"{url}?{urlencode(query)}" if query else url


def lists_of_tasks() -> dict[str, str]:
    """Return the list as it is narrowed in many ways."""
    from taskcontrol.status import Status

    name = "taskcontrol_tasklog_changelist"
    found = {"tasks": address(name), "tasks, page 200": address(name, p="200")}
    for status in (*Status.values, "stopping"):
        found[f"tasks, {status}"] = address(name, status__exact=status)
    for text in (*EXACT, *LOOSE):
        asked = text.format(id=newest(Status.FINISHED))
        found[f"tasks, `{text.format(id='…')}`"] = address(name, q=asked)
    return found


def pages_of_tasks() -> dict[str, str]:
    """Return the page of the newest task in each status that has one."""
    from taskcontrol.status import Status

    keys = {status: newest(status) for status in Status.values}
    name = "taskcontrol_tasklog_change"
    return {f"task, {one}": address(name, key) for one, key in keys.items() if key}


def other_pages() -> dict[str, str]:
    """Return the other screens, each with its list and one page."""
    from django.urls import reverse

    from taskcontrol import models

    front = address("app_list", "taskcontrol")
    found = {"overview": front, "overview, 7d": f"{front}?period=7d"}
    found["running now"] = address("taskcontrol_running")
    batches = models.TaskBatch.objects.order_by("-total")
    firsts = {
        "queue": models.QueueState.objects.order_by("name"),
        "worker": models.Worker.objects.all(),
        "task type": models.TaskType.objects.order_by("pk"),
        "batch": batches,
        "schedule": models.Schedule.objects.order_by("pk"),
    }
    for word, rows in firsts.items():
        name = f"taskcontrol_{rows.model._meta.model_name}"
        found[f"list: {word}"] = address(f"{name}_changelist")
        found[f"page: {word}"] = address(f"{name}_change", rows[0].pk)
    found["audit"] = address("taskcontrol_taskevent_changelist")
    found["my tasks"] = reverse("taskcontrol:my_tasks")
    return found


def newest(status: str) -> int | None:
    """Return the key of the newest task in a status."""
    from taskcontrol.models import TaskLog

    rows = TaskLog.objects.filter(status=status).order_by("-pk")
    key: int | None = rows.values_list("pk", flat=True).first()
    return key


def cost_of(ask: Callable[[], Any]) -> Cost:
    """Return the least that a page took, and what it asked of the database."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from bench.asking import milliseconds, pages as looked_at

    ask()  # imports, templates, connections
    looked_at()
    idle = -looked_at() + looked_at()
    times, pages = [], []
    for _ in range(CALLS):
        before = looked_at()
        times.append(milliseconds(ask))
        pages.append(looked_at() - before - idle)
    with CaptureQueriesContext(connection) as asked:
        ask()
    scans = [one["sql"] for one in asked if TABLE in scanned(one["sql"])]
    return Cost(min(times), len(asked), max(0, min(pages)), scans)


def scanned(sql: str) -> set[str]:
    """Return the tables that the plan of a statement reads from end to end."""
    from django.db import connection

    if TABLE not in sql or not sql.startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
        return set()
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}")
        return set(_whole(cursor.fetchone()[0][0]["Plan"]))


def _whole(plan: dict[str, Any]) -> Iterator[str]:
    if plan["Node Type"] == "Seq Scan":
        yield plan["Relation Name"]
    for child in plan.get("Plans", ()):
        yield from _whole(child)


def measured(client: Any, name: str, url: str) -> Cost:
    """Return the cost of a page, which must answer."""
    if (status := client.get(url).status_code) != 200:
        raise RuntimeError(f"{name} answers {status}: {url}")
    return cost_of(lambda: client.get(url))


def report(costs: dict[str, list[Any]]) -> str:
    """Return a Markdown table of what ``main`` printed, and the plans that it should not see."""
    lines = ["| page of admin | ms | statements | pages |", "|---|---|---|---|"]
    whole = []
    for name, (milliseconds, statements, looked_at, scans) in costs.items():
        lines.append(f"| {name} | {milliseconds:,.0f} | {statements} | {looked_at:,} |")
        whole += [f"{name} reads all tasks: {sql}" for sql in scans]
    return "\n".join([*lines, "", *(whole or ["No statement reads all tasks."])])


def main() -> None:
    """Build the site, ask for each page, and print what it costs."""
    import django

    django.setup()
    from django.conf import settings
    from django.test import Client

    from bench.usedsite import build

    settings.ALLOWED_HOSTS = ["testserver"]
    client = Client()
    client.force_login(build(int(sys.argv[1])))
    client.get("/admin/taskcontrol/queuestate/")  # stores the queues
    costs = {name: measured(client, name, url) for name, url in pages().items()}
    sys.stdout.write(json.dumps(costs) + "\n")


if __name__ == "__main__":
    main()
