"""The servers of a stage: PostgreSQL, Redis, and MariaDB where it is asked for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.listening import statements
from bench.peers import OURS
from tests.servers.mariadb import Mariadb
from tests.servers.postgres import Postgres
from tests.servers.redis import Redis


class Ground:
    """PostgreSQL with fsync and synchronous_commit on, Redis without persistence."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.postgres = Postgres(directory / "postgres", fsync=True)
        self.redis = Redis(directory / "redis.sock")
        self.mariadb: Mariadb | None = None

    def begin_servers(self) -> None:
        """Start what every workload needs."""
        self.postgres.start()
        self.redis.start()

    def end_servers(self) -> None:
        """Stop all."""
        self.redis.stop()
        self.postgres.stop()
        if self.mariadb is not None:
            self.mariadb.stop()

    def database_url(self, database: str) -> str:
        """Return the address of one of the databases."""
        return f"postgres://postgres@127.0.0.1:{self.postgres.port}/{database}"

    def empty_mariadb(self) -> str:
        """Return the address of an empty database on MariaDB."""
        if self.mariadb is None:
            self.mariadb = Mariadb(self.directory / "mariadb")
            self.mariadb.start()
        with self.mariadb.connect() as connection:
            connection.cursor().execute("DROP DATABASE IF EXISTS bench")
            connection.cursor().execute("CREATE DATABASE bench CHARACTER SET utf8mb4")
        socket = quote(str(self.mariadb.socket), safe="")
        return f"mysql://{self.mariadb.user}:@/bench?unix_socket={socket}"

    def sql(self, *statements: str, database: str = OURS) -> list[Any]:
        """Run statements, each by itself; return the rows of the last."""
        import psycopg

        with psycopg.connect(self.postgres.dsn(database), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def has_database(self, name: str) -> bool:
        """Return whether there is a database of this name."""
        return (name,) in self.sql("SELECT datname FROM pg_database")

    @contextmanager
    def statements(self) -> Iterator[Counter[str]]:
        """Fill the counter with the statements that PostgreSQL hears during the block."""
        log = self.postgres.directory.with_suffix(".log")
        heard: Counter[str] = Counter()
        self.sql("ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()")
        time.sleep(0.5)
        offset = log.stat().st_size
        yield heard
        heard.update(statements(log, offset))
        self.sql("ALTER SYSTEM RESET log_statement", "SELECT pg_reload_conf()")
