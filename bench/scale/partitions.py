"""The ledger in partitions by month, made and unmade by the very statements of the page.

``python -m bench.scale.partitions N`` walks with N tasks on a plain ledger and on such a one.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.scale.road import Book, confirm, fill, site, walk
from bench.scale.simulated import settle

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
#: The statements of the page in their order; it shows them for this month and the next.
CONVERT, MONTH, TURN, LEFT, DROP = re.findall(
    r"^```sql\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE
)
SHOWN = "2027_01"
COUNT = "SELECT COUNT(*) FROM taskcontrol_tasklog"
#: Months that are kept, and tasks in each beside those that walk one by one.
MONTHS, FULL = 12, 5


def of_month(statements: str, month: str) -> str:
    """Return statements of the page for another month, such as "2026_12"."""
    year, number = map(int, month.split("_"))
    after = f"{year + number // 12}_{number % 12 + 1:02}"

    def other(shown: re.Match[str]) -> str:
        wanted = month if shown[2] == SHOWN[-2:] else after
        return wanted.replace("_", shown[1])

    return re.sub(r"2027(_?)(01|02)", other, statements)


def months(last: str, number: int) -> list[str]:
    """Return so many months up to ``last``, oldest first."""
    year, month = map(int, last.split("_"))
    counts = range(12 * year + month - number, 12 * year + month)
    return [f"{count // 12}_{count % 12 + 1:02}" for count in counts]


def main(number: int) -> dict[str, Any]:
    """Walk on the plain ledger, put it into partitions, fill them, walk, and drop one."""
    import django

    django.setup()
    from taskcontrol.suspension import dispatcher_state

    dispatcher_state()
    settle(500)
    here, book = site(number), Book()
    confirm()
    kept = months(SHOWN, MONTHS)
    for _ in kept:
        fill(here, number * FULL)
    here.connection.execute("VACUUM ANALYZE")
    walk(book, here, max(1, number // 10), name="first ")
    walk(book, here, number, name="plain ")
    here.connection.execute("TRUNCATE taskcontrol_tasklog")
    here.connection.execute(of_month(CONVERT, kept[0]))
    for month in kept:
        here.connection.execute(of_month(MONTH, month))
        here.connection.execute(of_month(TURN, month))
        fill(here, number * FULL)
    here.connection.execute("VACUUM ANALYZE")
    walk(book, here, max(1, number // 10), name="first ")
    walk(book, here, number, name="parted ")
    book.steps["dropped"] = dict(_drop(here, kept[0]))
    return book.steps


def _drop(here: Any, month: str) -> Iterator[tuple[str, float]]:
    """Drop the oldest month; return what that took."""
    import time

    (open_ones,) = here.connection.execute(of_month(LEFT, month)).fetchone()
    yield "left", open_ones
    (before,) = here.connection.execute(COUNT).fetchone()
    began = time.perf_counter()
    here.connection.execute(of_month(DROP, month))
    yield "seconds", time.perf_counter() - began
    yield "rows", before - here.connection.execute(COUNT).fetchone()[0]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(int(sys.argv[1]))) + "\n")
