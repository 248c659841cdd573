"""Named points between two steps, at which a test lets this process die, stop or fail.

``TASKCONTROL_CRASH_AT="dispatch.committed=kill:/path/flag"`` lets the first process that comes
there die, once: it makes the file, writes its pid into it, and who finds the file goes on.
Several are separated by ``;``. Without the variable no point does anything. CONTRIBUTING.md
says how to add one.
"""

from __future__ import annotations

import os
import signal
import socket
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

VARIABLE = "TASKCONTROL_CRASH_AT"

#: Every point, in the order of the road, and what is done and not done there.
POINTS = {
    "enqueue.checked": "The call is good; no row is inserted.",
    "enqueue.inserted": "The row is inserted; a transaction round it is not committed.",
    "enqueue.rung": "The row is committed and the bell asked for; the call returns.",
    "bulk.inserted": "A chunk of rows is inserted, perhaps not the last.",
    "bulk.whole": "All rows and the batch are written; nothing is committed.",
    "bulk.rung": "All is committed and the bell asked for; the call returns.",
    "bell.wanted": "What the bell is for is committed; it has not rung.",
    "dispatch.taken": "Something waits and the dispatcher's row is locked; nothing is chosen.",
    "dispatch.locked": "The chosen rows are locked; none is promoted.",
    "dispatch.committed": "They are Queued for all to see; no message is sent.",
    "dispatch.sent": "All messages are sent; the pass has not ended.",
    "dispatch.refused": "The broker took no message; nothing has gone back to Pending.",
    "dispatch.unsent": "All has gone back to Pending; the broker's error is not noted.",
    "deck.claimed": "They are Queued and claimed by their worker; it does not have them in hand.",
    "deck.put": "Its deck has them; no child does.",
    "deck.left": "A worker leaves, or a child did not claim; nothing of it is given back.",
    "serve.begun": "A child has said that a body begins; it has not.",
    "journal.begins": "A body has run for a while; that it began is not written.",
    "journal.ends": "Bodies have returned; no end is written.",
    "journal.written": "Their ends are committed; the worker's own hands do not know it.",
    "publish.prepared": "Some messages are ready, perhaps not all; the broker has none.",
    "worker.received": "A message has come; no child has it.",
    "worker.handed": "A child says that it begins; this worker has not noted which.",
    "worker.lost": "A child has died over an attempt; nothing is written.",
    "worker.stopping": "An attempt that is not wanted still runs; it is not told.",
    "worker.timed_out": "The hard time limit of an attempt has come; nothing is written.",
    "worker.left": "The worker has said that it goes; what it holds is not given back.",
    "claim.begun": "The child has the message; it has not asked the row.",
    "claim.won": "The attempt is this child's; nothing of its body has run.",
    "body.ready": "Hooks have run; the body is about to begin.",
    "body.done": "The body is over; its end is not written.",
    "atomic.ended": "The end is written in the body's transaction, which is not committed.",
    "held.locked": "A block of the body is over and its task locked; it is not committed.",
    "end.refused": "Somebody was faster with the end; the place is not freed.",
    "end.written": "The end is written; the hooks have not run.",
    "attempt.done": "All is done; the worker does not know it.",
    "moved.pending": "A row is Pending again; that is not committed.",
    "moved.queued": "Rows are Queued; that is not committed.",
    "moved.started": "A row that somebody listens to is Started; that is not committed.",
    "moved.finished": "A row that somebody listens to is Finished; that is not committed.",
    "moved.failed": "A row that somebody listens to is Failed; that is not committed.",
    "moved.canceled": "Rows are Canceled; that is not committed.",
    "moved.paused": "Rows are Paused; that is not committed.",
    "news.stored": "A change and its news are committed; nobody is told.",
    "news.taken": "This process is to tell a news; it has told nobody.",
    "news.told": "A news was told; it is not deleted.",
    "cancel.written": "A task is Canceled; nobody is notified.",
    "retry.written": "A task waits again by hand; nobody is notified.",
    "retries.found": "The sweep knows which retries are due; none is locked.",
    "retries.archived": "Their failed attempts are archived; none waits again.",
    "retries.moved": "They wait again; the pass goes on.",
    "rescue.declared": "Silent workers are declared lost; what they held is not looked for.",
    "rescue.locked": "A row of a lost worker is locked; it is not moved.",
    "rescue.moved": "One row is rescued, perhaps not the last of the page.",
    "resend.found": "The sweep knows which messages are overdue; none is counted.",
    "resend.taken": "Another message is counted for each; that is not committed.",
    "resend.counted": "Another message is counted for each; none is sent.",
    "resend.sent": "They are sent; the events are not written.",
    "schedule.due": "A schedule is due; its time is not taken.",
    "schedule.taken": "Its next run is set; the task is not made.",
    "schedule.made": "The task is made; nothing is committed.",
    "schedule.fired": "Time and task are committed; what runs once is not switched off.",
    "batch.over": "All members have ended and the batch is locked; nothing is written.",
    "batch.called": "A task of a callback is inserted; nothing is committed.",
    "batch.settled": "The end of a batch is committed.",
    "batch.holding": "A batch to be held is locked; no member is.",
}


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    """Hang as on a machine that is paused, until a test sends SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)


def _fail() -> None:
    from django.db import OperationalError

    raise OperationalError(f"as {VARIABLE} asks")


def _lose_broker() -> None:
    """Cut every connection of this process to the broker, in the middle of what it does."""
    from celery import current_app

    url = str(current_app.conf.broker_write_url or current_app.conf.broker_url)
    for file in Path("/dev/fd").iterdir():
        with suppress(OSError):
            if file.is_socket():
                _cut_if_it_leads_to(url, int(file.name))


def _cut_if_it_leads_to(url: str, number: int) -> None:
    with socket.socket(fileno=os.dup(number)) as one:
        peer = one.getpeername()
        address = peer if isinstance(peer, str) else f":{peer[1]}"
        if address and address in url:
            one.shutdown(socket.SHUT_RDWR)


#: What may happen at a point.
KINDS: dict[str, Callable[[], None]] = {
    "kill": _die,
    "stop": _stop,
    "error": _fail,
    "broker": _lose_broker,
}


def _do_nothing(name: str) -> None:
    """Most processes come here."""


#: ``reached("dispatch.committed")``: the process stands at this point.
reached: Callable[[str], None] = _do_nothing


def arm() -> None:
    """Do from now on as the variable says; a name or kind that there is not is an error."""
    global reached
    spec = os.environ.get(VARIABLE)
    reached = _Crashes(spec).reached if spec else _do_nothing


class _Crashes:
    """What is to happen where; each once, in whatever process."""

    def __init__(self, spec: str) -> None:
        self._at: dict[str, list[tuple[Callable[[], None], str]]] = defaultdict(list)
        for one in spec.split(";"):
            name, _, rest = one.strip().partition("=")
            kind, _, flag = rest.partition(":")
            if name not in POINTS or kind not in KINDS or not flag:
                raise ValueError(
                    f"{VARIABLE}: {one!r} is not POINT=KIND:FLAG with a point of "
                    f"taskcontrol/crashpoints.py, one of {', '.join(KINDS)}, and a file."
                )
            self._at[name].append((KINDS[kind], flag))

    def reached(self, name: str) -> None:
        """Do the first thing that was not done yet at this point."""
        for act, flag in self._at.get(name, ()):
            if _is_first(flag):
                act()
                return


def _is_first(flag: str) -> bool:
    try:
        file = os.open(flag, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        os.write(file, str(os.getpid()).encode())
    finally:
        os.close(file)
    return True


arm()
