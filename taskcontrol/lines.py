"""The line between a worker's main process and one of its children: jobs there, answers back."""

from __future__ import annotations

import mmap
import pickle
import socket
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

#: Bytes that a line is to take in without a reader; the system may allow less.
BUFFER = 1 << 20
_HEADER = struct.Struct(">I")

#: What became of a job, as its child answers: all of it is written down; its body has
#: returned, and its end is to be written; it did not begin; there was nothing to run; it
#: asks that its begin be written now; its body is over, and the database did not take the end.
DONE, RETURNED, UNBEGUN, REFUSED, ASKS, UNWRITTEN = range(6)


class Job(NamedTuple):
    """What a child is given: a row of its own, or only which one to claim."""

    #: Grows from job to job of one line.
    number: int
    task_id: int
    attempt: int
    #: The row as it stands in the database, claimed for this child; None: it is to claim.
    values: Sequence[Any] | None = None


class Answer(NamedTuple):
    """What a child says of a job; of one whose end is to be written also what that tells."""

    number: int
    what: int
    #: By the monotonic clock, which all processes of the machine share.
    began: float = 0.0
    ended: float = 0.0
    told: Sequence[Any] = ()


class Page:
    """What both sides see at once, without a message: a few numbers in shared memory.

    Each is written by one side only. Who is about to begin a job first says so and then looks
    whether it was taken back; who takes it back first says so and then looks whether it has
    begun: so at least one of the two sees the other.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 128)
        view = memoryview(self._memory)
        self._numbers, self._times = view.cast("q"), view.cast("d")
        self._own = self._numbers

    def speak_no_more(self) -> None:
        """Let a copy of the child, which a body forked, say nothing here, and read on."""
        view = memoryview(bytearray(self._memory[:]))
        self._own, self._times = view.cast("q"), view.cast("d")

    # Written by the child

    @property
    def current(self) -> int:
        """The job whose body runs now; 0 between two."""
        return self._own[0]

    @property
    def begun(self) -> int:
        """The last job that began."""
        return self._own[1]

    @property
    def since(self) -> float:
        """When it did, by the monotonic clock."""
        return self._times[2]

    def begin(self, number: int) -> None:
        """Say that the body of a job begins now."""
        self._times[2] = time.monotonic()
        self._own[1] = number
        self._own[0] = number

    def end(self) -> None:
        """Say that no body runs."""
        self._own[0] = 0

    @property
    def left(self) -> bool:
        """Whether it wants nothing by this line, and goes on without it."""
        return bool(self._own[9])

    def leave(self) -> None:
        """Say that it closes its end of the line, and lives."""
        self._own[9] = 1

    # Written by the main process

    @property
    def taken_back(self) -> int:
        """The last job that was taken back: it, and what was given before it, does not begin."""
        return self._numbers[4]

    @taken_back.setter
    def taken_back(self, number: int) -> None:
        self._numbers[4] = number

    @property
    def aim(self) -> int:
        """The job that a signal is meant for."""
        return self._numbers[5]

    @aim.setter
    def aim(self, number: int) -> None:
        self._numbers[5] = number

    @property
    def halt(self) -> int:
        """The job after which no other begins for now: its process may be about to die."""
        return self._numbers[6]

    @halt.setter
    def halt(self, number: int) -> None:
        self._numbers[6] = number

    @property
    def written(self) -> int:
        """The last job whose begin was written because it asked for that."""
        return self._numbers[7]

    @written.setter
    def written(self, number: int) -> None:
        self._numbers[7] = number

    @property
    def unwanted(self) -> int:
        """The last job that asked, and that somebody had canceled or given up on."""
        return self._numbers[8]

    @unwanted.setter
    def unwanted(self, number: int) -> None:
        self._numbers[8] = number


class Lease:
    """Until when a worker's children may begin what it has claimed; shared with them all.

    A worker that gives no sign of life is declared lost, and others have its tasks then.
    """

    def __init__(self) -> None:
        self._until = memoryview(mmap.mmap(-1, 8)).cast("d")

    @staticmethod
    def clock() -> float:
        """Return the time by a clock that goes on while the machine sleeps."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def renew(self, since: float, seconds: float) -> None:
        """The sign of life that was begun at ``since`` was taken: it holds so long."""
        self._until[0] = since + seconds

    def end(self) -> None:
        """Let nothing more begin."""
        self._until[0] = 0.0

    def holds(self) -> bool:
        """Return whether the last sign of life is not too old."""
        return self.clock() < self._until[0]


lease = Lease()


class Line:
    """A pair of sockets and a page, made before the child is forked."""

    def __init__(self, size: int | None = None) -> None:
        self.main_end, self.child_end = socket.socketpair()
        for end in (self.main_end, self.child_end):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, size or BUFFER)
        #: Bytes that it takes in for sure: Linux tells twice what it was asked for, and counts
        #: what it needs itself.
        self.room = self.main_end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 4
        self.page = Page()
        self._read = bytearray()
        #: What was given to the child, and the line has not taken in yet.
        self.unsent = bytearray()
        self._writing = threading.Lock()
        #: Whether the other side has closed its end: a dead child has, unless what it
        #: forked holds it open; one that lives has if its body closed what is not its own.
        self.closed = False
        #: Whether Celery has seen that the child is dead, and may use its numbers again.
        self.child_is_dead = False
        #: Whether this process is a copy of the child, which a body forked.
        self.parted = False

    def keep_main_end(self) -> None:
        """Close the other end in the main process: so the child's death is seen."""
        self.child_end.close()
        self.main_end.setblocking(False)  # noqa: FBT003 - the signature of sockets

    def keep_child_end(self) -> None:
        """Close the other end in the child."""
        self.main_end.close()

    def part(self) -> None:
        """Say and hear nothing more in a copy of the child, which a body forked."""
        self.parted = True
        self.page.speak_no_more()
        self._writing = threading.Lock()
        self.child_end.close()

    # In the main process

    def give(self, jobs: Sequence[Job]) -> bool:
        """Send jobs as far as the line takes them in; False: it is closed."""
        self.unsent += _packed([tuple(job) for job in jobs])
        return self.send_on()

    def send_on(self) -> bool:
        """Send what the line takes in now, without waiting; False: it is closed."""
        try:
            while self.unsent:
                del self.unsent[: self.main_end.send(self.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
            self.unsent.clear()
            return False
        return True

    def answers(self) -> list[Answer]:
        """Return what the child has said since, without waiting."""
        with suppress(BlockingIOError):
            while True:
                data = _receive(self.main_end, BUFFER)
                if not data:
                    self.closed = True
                    break
                self._read += data
        found: list[Answer] = []
        while (message := self._cut()) is not None:
            found.append(Answer(*message))
        return found

    def _cut(self) -> Any:
        if len(self._read) < _HEADER.size:
            return None
        (size,) = _HEADER.unpack_from(self._read)
        end = _HEADER.size + size
        if len(self._read) < end:
            return None
        message = pickle.loads(memoryview(self._read)[_HEADER.size : end])  # noqa: S301 - of our own child
        del self._read[:end]
        return message

    # In the child

    def jobs(self) -> list[Job]:
        """Return the next jobs, or none if the main process has closed its end."""
        header = self._exactly(_HEADER.size)
        body = header and self._exactly(_HEADER.unpack(header)[0])
        return [Job(*one) for one in pickle.loads(body)] if body else []  # noqa: S301 - of our own parent

    def _exactly(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            part = _receive(self.child_end, min(size, BUFFER))
            if not part:
                return b""
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def answer(self, answer: Answer) -> None:
        """Say what became of a job; who has no reader any more is about to end."""
        with self._writing, suppress(OSError):
            self.child_end.sendall(_packed(tuple(answer)))


def _receive(end: socket.socket, most: int) -> bytes:
    """Return what has come; nothing if the other side is gone, with or without having read all."""
    try:
        return end.recv(most)
    except ConnectionResetError:
        return b""


def _packed(what: Any) -> bytes:
    body = pickle.dumps(what, pickle.HIGHEST_PROTOCOL)
    return _HEADER.pack(len(body)) + body
