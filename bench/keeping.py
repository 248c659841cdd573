"""Keeps figures in ``docs/performance.jsonl`` and makes the page's tables and curves of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.curves import chart
from bench.peers import peers
from bench.program import WORKLOADS
from bench.report import Line, curves, goals, table

DOCS = Path(__file__).resolve().parent.parent / "docs"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
SOAK, END_OF_SOAK = "<!-- soak -->", "<!-- end of soak -->"
#: Load average from which on nothing is kept: other work distorts it.
QUIET = 1.5


def too_busy() -> str:
    """Return why nothing is kept now, or nothing."""
    load = os.getloadavg()[0]
    if load < QUIET:
        return ""
    return (
        f"The load average is {load:.1f}: other work would distort the figures. They are kept "
        f"only where it is below {QUIET} at the beginning."
    )


def write(lines: Sequence[Line], docs: Path = DOCS) -> None:
    """Let these lines take the place of those of the same workloads, and write the page."""
    kept, page = docs / "performance.jsonl", docs / "performance.md"
    new = {line["workload"] for line in lines}
    old = [line for line in _read(kept) if line["workload"] not in new]
    order = list(WORKLOADS)
    everything = sorted([*old, *lines], key=lambda line: order.index(line["workload"]))
    kept.write_text("".join(json.dumps(line) + "\n" for line in everything))
    _between(page, BEGIN, END, told(everything, docs))


def write_soak(text: str, pictures: Mapping[str, str], docs: Path = DOCS) -> None:
    """Put the verdict of a soak and its curves on the page."""
    (docs / "curves").mkdir(exist_ok=True)
    shown = []
    for name, picture in pictures.items():
        (docs / "curves" / f"soak-{name}.svg").write_text(picture)
        shown.append(f"![{name.capitalize()} over the soak](curves/soak-{name}.svg)")
    told = "\n\n".join([text.rstrip(), *shown])
    _between(docs / "performance.md", SOAK, END_OF_SOAK, f"{told}\n")


def _between(page: Path, begin: str, end: str, text: str) -> None:
    before, _, rest = page.read_text().partition(begin)
    page.write_text(f"{before}{begin}\n\n{text}\n{end}{rest.partition(end)[2]}")


def _read(file: Path) -> list[Line]:
    return (
        [json.loads(line) for line in file.read_text().splitlines()]
        if file.exists()
        else []
    )


def told(lines: Sequence[Line], docs: Path) -> str:
    """Return what stands on the page, and draw its curves."""
    parts = ["### Goals", goals(lines)]
    for name in WORKLOADS:
        own = [line for line in lines if line["workload"] == name]
        if own:
            parts += [f"### {name}", WORKLOADS[name].words, _how(own[0]), table(own)]
            parts += _picture(name, own, docs)
    parts += ["### Who takes part", who(lines)]
    return "\n\n".join(parts) + "\n"


def _how(line: Line) -> str:
    return (
        f"`{line['command']}`, {line['date']}, commit {line['commit']}, load "
        f"{line['load']:.1f} before; {line['machine']}."
    )


def who(lines: Sequence[Line]) -> str:
    """Return what is to be known of each contender, with its versions."""
    known = peers()
    versions = {line["contender"]: line["versions"] for line in lines}
    told = []
    for name, peer in known.items():
        if name in versions:
            packages = ", ".join(
                f"{one} {number}" for one, number in versions[name].items()
            )
            kept = "keeps a record" if peer.ended else "keeps no record"
            told.append(f"- **{peer.title}**: {packages}; {kept}; {peer.note}.")
    return "\n".join(told)


def _picture(name: str, lines: Sequence[Line], docs: Path) -> list[str]:
    """Draw what a workload has to show; return the lines that show it."""
    drawn = {"memory": memory_picture, "grown": grown_picture}.get(name)
    if drawn is None:
        return []
    (docs / "curves").mkdir(exist_ok=True)
    (docs / "curves" / f"{name}.svg").write_text(drawn(lines))
    return [f"![The curves of {name}](curves/{name}.svg)"]


def memory_picture(lines: Sequence[Line]) -> str:
    """Return the curves of memory over tasks: plain Celery and ours."""
    shown = [line for line in lines if line["contender"] in ("plain", "taskcontrol")]
    series = {
        f"{title}, {word}": points
        for figure, word in (("main_mb", "main"), ("child_mb", "child"))
        for title, points in curves(shown, figure).items()
    }
    return chart("Memory over tasks", "tasks run", "MB", series)


def grown_picture(lines: Sequence[Line]) -> str:
    """Return the curves of what must not grow with the ledger."""
    shown = {
        "CPU per task, ms": "cpu_ms",
        "pass p95, ms": "pass_p95_ms",
        "start p50, ms": "start_p50_ms",
    }
    series = {
        words: sorted(
            (max(1.0, line["figures"]["rows"][0]), sorted(values)[len(values) // 2])
            for line in lines
            if (values := line["figures"].get(figure))
        )
        for words, figure in shown.items()
    }
    return chart("What a grown ledger costs", "rows", "ms", series, log=True)
