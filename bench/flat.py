"""What must not grow with the ledger, asked over 10^3 to 10^6 rows."""

from __future__ import annotations

import json
import sys
from collections import defaultdict

from bench.stage import Stage

#: Rows in the ledger.
SIZES = (1_000, 10_000, 100_000, 1_000_000)
#: Milliseconds, and pages of the database.
Cost = tuple[float, float]


class Flat:
    """The figures of all rounds."""

    def __init__(self) -> None:
        self.found: dict[str, dict[int, list[Cost]]] = defaultdict(
            lambda: defaultdict(list)
        )

    def measure(self, stage: Stage, size: int) -> dict[str, Cost]:
        """Ask once over a ledger of ``size`` rows; return the costs by question."""
        stage.redis.flush()
        command = [sys.executable, "-m", "bench.asking", str(size)]
        costs: dict[str, Cost] = json.loads(stage.run(*command))
        for name, (milliseconds, pages) in costs.items():
            self.found[name][size].append((milliseconds, pages))
        return costs

    def table(self) -> str:
        """Return a Markdown table of the best round of each: "1.7 ms, 34 pages"."""
        sizes = sorted({size for by_size in self.found.values() for size in by_size})
        lines = [
            f"| ms; pages | {' | '.join(f'{size:,} rows' for size in sizes)} |",
            f"|---|{'---|' * len(sizes)}",
        ]
        for name, by_size in self.found.items():
            best = [
                [min(one) for one in zip(*by_size[size], strict=True)] for size in sizes
            ]
            cells = " | ".join(f"{ms:,.1f}; {pages:,.0f}" for ms, pages in best)
            lines.append(f"| {name} | {cells} |")
        return "\n".join(lines)
