"""What the figures were taken on: the machine, and the commit that was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def machine() -> str:
    """Return what the figures were taken on."""
    model = "unknown processor"
    told = Path("/proc/cpuinfo")
    if told.exists():
        names = (line for line in told.read_text().splitlines() if "model name" in line)
        model = next(names, ":" + model).partition(":")[2].strip()
    python = platform.python_version()
    return f"{os.cpu_count()} cores ({model}), {platform.system()}, Python {python}"


def commit() -> str:
    """Return which commit is measured; with a plus where the tree differs from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    return done.stdout.strip()
