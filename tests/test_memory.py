"""The memory of one run in a process that runs many, and whether there is any for another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from taskcontrol import memory

#: In a fork, as a pool makes one: a program keeps the mark of what executed it.
ONE_BIG_ONE_SMALL = """
import os
child = os.fork()
if child:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
import django; django.setup()
from taskcontrol import memory
from tests import tasks
import os
# A worker's child: a process that was only forked. One that was started as a program
# counts what its starter had used, too.
if os.fork() == 0:
    memory.reset_peak(); before = memory.peak_kb()
    memory.reset_peak(); tasks.allocate(300); big = memory.peak_kb()
    memory.reset_peak(); tasks.nothing(); small = memory.peak_kb()
    print(before, big, small, flush=True)
    os._exit(0)
os.wait()
"""


#: With less room than a claim needs, and with room again.
SHORT_OF_MEMORY = """
import resource
from taskcontrol import memory
pages = int(open("/proc/self/statm").read().split()[0])
for megabytes in 1, 64:
    room = pages * resource.getpagesize() + megabytes * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
    print(memory.is_left())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of others holds for nothing")
def test_it_is_known_whether_a_process_may_take_more():
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["False", "True"]


@pytest.mark.skipif(not memory._CLEAR.exists(), reason="only Linux can lower the mark")
def test_a_small_task_after_a_big_one_does_not_seem_as_big():
    done = subprocess.run(
        [sys.executable, "-c", ONE_BIG_ONE_SMALL],
        capture_output=True,
        text=True,
        check=True,
    )

    before, big, small = map(int, done.stdout.split())
    assert big > before + 250 * 1024
    assert small < before + 50 * 1024


def test_where_the_mark_cannot_be_lowered_it_stays(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "nowhere" / "clear_refs")

    memory.reset_peak()

    assert memory.peak_kb() > 10_000


def test_on_a_mac_the_system_counts_bytes(monkeypatch):
    kilobytes = memory.peak_kb()
    monkeypatch.setattr(sys, "platform", "darwin")

    assert memory.peak_kb() == pytest.approx(kilobytes / 1024, rel=0.5)
    assert isinstance(memory._CLEAR, Path)


def test_a_kill_for_memory_is_told_of_once_and_not_for_long(tmp_path, monkeypatch):
    counted = tmp_path / "vmstat"
    monkeypatch.setattr(memory, "_MEMBERSHIP", tmp_path / "nothing")
    monkeypatch.setattr(memory, "_MACHINE", counted)

    def kernel_has_killed(number):
        counted.write_text(f"nr_free_pages 5\noom_kill {number}\noom_kill_total 9\n")

    kernel_has_killed(3)
    kills = memory.KillsForMemory()
    assert not kills.explain_one(), "what was before is nobody's"
    kernel_has_killed(5)
    assert [kills.explain_one() for _ in range(3)] == [True, True, False]
    kernel_has_killed(6)
    kills.look()
    assert kills.explain_one(), "one look later it may still be this one"
    kernel_has_killed(7)
    kills.look()
    kills.look()
    assert not kills.explain_one()


def test_where_nobody_counts_kills_for_memory_none_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_MEMBERSHIP", tmp_path / "nothing")
    monkeypatch.setattr(memory, "_MACHINE", tmp_path / "nothing")

    assert not memory.KillsForMemory().explain_one()


@pytest.mark.parametrize(
    ("membership", "counter"),
    [
        ("0::/web/worker.service", "web/worker.service/memory.events"),
        ("0::/", "memory.events"),
        ("0::/of/the/host", "memory.events"),
        ("5:devices:/\n4:memory:/worker\n0::/", "memory/worker/memory.oom_control"),
        ("4:memory:/worker\n0::/", "memory/worker/below/memory.oom_control"),
        ("4:cpu,memory:/of/the/host\n0::/", "memory/memory.oom_control"),
    ],
    ids=["service", "container", "unseen", "older", "older, below", "older, unseen"],
)
def test_a_kill_elsewhere_on_the_machine_explains_nothing(
    tmp_path, monkeypatch, membership, counter
):
    machine, own, member = (tmp_path / name for name in ("vmstat", counter, "member"))
    own.parent.mkdir(parents=True, exist_ok=True)
    if own.parent.name == "below":
        (own.parent.parent / own.name).write_text("oom_kill 2\n")
    member.write_text(membership)
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    monkeypatch.setattr(memory, "_MEMBERSHIP", member)
    monkeypatch.setattr(memory, "_MACHINE", machine)
    machine.write_text("oom_kill 1\n")
    own.write_text("under_oom 0\noom_kill 4\noom_group_kill 9\n")
    kills = memory.KillsForMemory()

    machine.write_text("oom_kill 2\n")
    assert not kills.explain_one()
    own.write_text("oom_kill 5\n")
    assert [kills.explain_one(), kills.explain_one()] == [True, False]
