"""What must not grow with the ledger, asked over 10^3 to 10^6 rows."""

from __future__ import annotations

import json
import sys
from collections import defaultdict

from bench.stage import Stage

#: Rows in the ledger.
SIZES = (1_000, 10_000, 100_000, 1_000_000)


class Flat:
    """The figures of all rounds."""

    def __init__(self) -> None:
        self.found: dict[str, dict[int, list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )

    def measure(self, stage: Stage, size: int) -> dict[str, float]:
        """Ask once over a ledger of ``size`` rows; return milliseconds by question."""
        stage.redis.flush()
        command = [sys.executable, "-m", "bench.asking", str(size)]
        took: dict[str, float] = json.loads(stage.run(*command))
        for name, value in took.items():
            self.found[name][size].append(value)
        return took

    def table(self) -> str:
        """Return a Markdown table: the best round of each, and the last to the first."""
        sizes = sorted({size for by_size in self.found.values() for size in by_size})
        lines = [
            f"| ms | {' | '.join(f'{size:,} rows' for size in sizes)} | last : first |",
            f"|---|{'---|' * len(sizes)}---|",
        ]
        for name, by_size in self.found.items():
            values = [min(by_size[size]) for size in sizes]
            cells = " | ".join(f"{value:.1f}" for value in values)
            lines.append(f"| {name} | {cells} | {values[-1] / values[0]:.1f} |")
        return "\n".join(lines)
