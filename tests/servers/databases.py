"""The database of a run: its settings here, its server, and its address for a process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import dj_database_url

from tests.servers.mariadb import Mariadb
from tests.servers.postgres import Postgres

ENGINES = {
    "sqlite": "django.db.backends.sqlite3",
    "postgresql": "django.db.backends.postgresql",
    "mariadb": "django.db.backends.mysql",
}
SQLITE_OPTIONS = {
    "timeout": 20,
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}


def database_settings(kind: str, directory: Path) -> Any:
    """Return the entry of ``DATABASES`` for ``kind``, or for DATABASE_URL when it is set.

    The address of a server is filled in by ``start_server``: who imports the settings
    should not start one.
    """
    url = os.environ.get("DATABASE_URL")
    if url:
        settings: dict[str, Any] = dict(dj_database_url.parse(url, conn_max_age=600))
    else:
        settings = {"ENGINE": ENGINES[kind], "NAME": "taskcontrol"}
    if settings["ENGINE"] == ENGINES["sqlite"]:
        settings["OPTIONS"] = SQLITE_OPTIONS
        # A file, because the workers of a test are other processes.
        settings["TEST"] = {"NAME": str(directory / "test.sqlite3")}
        settings["NAME"] = settings["NAME"] if url else str(directory / "db.sqlite3")
    if settings["ENGINE"] == ENGINES["mariadb"]:
        import pymysql

        pymysql.install_as_MySQLdb()
        settings["TEST"] = {"CHARSET": "utf8mb4"}
    return settings


def start_server(settings: dict[str, Any], directory: Path) -> Postgres | Mariadb | None:
    """Start the server that ``settings`` mean, unless one is named, and fill it in."""
    if os.environ.get("DATABASE_URL") or settings["ENGINE"] == ENGINES["sqlite"]:
        return None
    if settings["ENGINE"] == ENGINES["postgresql"]:
        postgres = Postgres(directory / "postgres")
        postgres.start()
        settings.update(HOST=postgres.host, PORT=str(postgres.port), USER=postgres.user)
        return postgres
    mariadb = Mariadb(directory / "mariadb")
    mariadb.start()
    settings.update(HOST=str(mariadb.socket), USER=mariadb.user)
    return mariadb


def database_url(settings: dict[str, Any]) -> str:
    """Return the DATABASE_URL that leads another process to the database of ``settings``."""
    engine, name = settings["ENGINE"], settings["NAME"]
    if engine == ENGINES["sqlite"]:
        return f"sqlite:///{name}?{urlencode(SQLITE_OPTIONS)}"
    host, port, options = settings["HOST"], settings["PORT"], {}
    if host.startswith("/"):
        # A path does not fit into the place of the host: it would lose its case.
        key = "host" if engine == ENGINES["postgresql"] else "unix_socket"
        options, host = {key: host}, ""
        if port:
            options["port"], port = port, ""
    where = f"{settings['USER']}:{settings['PASSWORD']}@{host}{f':{port}' if port else ''}"
    scheme = "postgresql" if engine == ENGINES["postgresql"] else "mysql"
    return f"{scheme}://{where}/{name}?{urlencode(options)}"
