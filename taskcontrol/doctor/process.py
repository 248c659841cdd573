"""Looks at the process in which a body runs: what it does, and what it may be waiting for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psutil

from ..models import TaskLog
from ..wording import listed
from .findings import Finding, Level

#: Seconds over which the use of the CPU is measured.
LOOK = 0.3
#: Percent of a CPU from which on a process counts as computing.
BUSY = 20.0


def examine_process(row: TaskLog) -> Iterator[Finding]:
    """Yield what the process of a Started task does, if it is on this machine."""
    if row.pid is None:
        return
    process = _find(row)
    if process is None:
        where = row.worker.hostname if row.worker is not None else "a process of no worker"
        text = f"{row.pid} of {where} is not to be seen from here{_memory_told(row)}"
        advice = f"On its machine: manage.py taskcontrol doctor {row.pk}"
        yield Finding(Level.OK, "Process", text, advice)
        return
    try:
        yield _told(process)
    except psutil.Error as error:
        yield Finding(Level.WARN, "Process", f"{row.pid} cannot be looked at: {error}")


def _find(row: TaskLog) -> psutil.Process | None:
    """Return the process, unless another machine's has this number."""
    with suppress(psutil.Error):
        process = psutil.Process(row.pid)
        mine = {process.pid, process.ppid()}
        if row.worker is None or row.worker.pid in mine:
            return process
    return None


def _memory_told(row: TaskLog) -> str:
    """What its worker said of it with its last sign of life."""
    children = row.worker.children if row.worker is not None else []
    told = [child["memory_kb"] for child in children if child.get("pid") == row.pid]
    return f"; it takes {told[0] // 1024:,} MB" if told else ""


def _told(process: psutil.Process) -> Finding:
    cpu = process.cpu_percent(LOOK)
    memory = process.memory_info().rss // 1024**2
    text = f"{process.pid} {{}}, with {memory:,} MB"
    dump = f"py-spy dump --pid {process.pid} shows the line."
    state = process.status()
    if state == psutil.STATUS_STOPPED:
        advice = f"Somebody stopped it with SIGSTOP: kill -CONT {process.pid}"
        return Finding(Level.WARN, "Process", text.format("is frozen"), advice)
    if cpu >= BUSY or state == psutil.STATUS_RUNNING:
        return Finding(
            Level.OK, "Process", text.format(f"computes at {cpu:.0f} % of a CPU"), dump
        )
    what = f"waits ({state})"
    if seen := _waits_for(process):
        what += f", perhaps for {listed(seen)}"
    advice = f"{dump} A call without a timeout of its own may wait for ever."
    return Finding(Level.OK, "Process", text.format(what), advice)


def _waits_for(process: psutil.Process) -> list[str]:
    """Name the programs that it started, and the other ends of its connections."""
    seen = []
    with suppress(psutil.Error):
        seen += [f"{child.name()} ({child.pid})" for child in process.children()]
    with suppress(psutil.Error):
        ends = {
            f"{one.raddr.ip}:{one.raddr.port}"
            for one in process.net_connections("inet")
            if one.status == psutil.CONN_ESTABLISHED
        }
        seen += sorted(ends)
    return seen
