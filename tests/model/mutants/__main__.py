"""``python -m tests.model.mutants``: each guard is left out, and a test must notice."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.model.mutants import MUTANTS
from tests.model.mutating import judge_all


def main(argv: Sequence[str]) -> int:
    """Judge the mutants that one of the given words names, or all; 1 if one lives."""
    parser = argparse.ArgumentParser(prog="python -m tests.model.mutants")
    parser.add_argument("words", nargs="*", help="parts of names, or files; default: all")
    parser.add_argument("--at-once", type=int, default=2)
    given = parser.parse_args(argv)
    began = time.monotonic()
    chosen = [
        mutant
        for mutant in MUTANTS
        if not given.words
        or any(word in mutant.name or _is_room(word, mutant.file) for word in given.words)
    ]
    killed = hung = 0
    for verdict in judge_all(chosen, at_once=given.at_once):
        told = f"killed by {verdict.killer}" if verdict.killer else "LIVES"
        trouble = f"\n    {verdict.trouble}" if verdict.trouble else ""
        print(f"{verdict.mutant.name}: {told}{trouble}", flush=True)  # noqa: T201
        killed += verdict.well
        hung += verdict.hung
    took = time.monotonic() - began
    print(f"{len(chosen)} mutants in {took:.0f} s: {killed} killed, {hung} hung")  # noqa: T201
    return int(killed < len(chosen))


def _is_room(word: str, file: str) -> bool:
    return word == file or (word.endswith("/") and file.startswith(word))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
