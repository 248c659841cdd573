"""The site's settings as in production: a database server, Redis, DEBUG off."""

from __future__ import annotations

import os

os.environ.setdefault("DEBUG", "0")
os.environ.setdefault("SECRET_KEY", "only-for-measuring")
if os.environ.get("DATABASE_URL", "").startswith("mysql"):
    import pymysql

    pymysql.install_as_MySQLdb()

from project.settings import *  # noqa: F403
from project.settings import TASKCONTROL

TASKCONTROL = {
    **TASKCONTROL,
    "ALLOWED_MODULES": ["bench.bodies", "bench.manytypes", "bench.soak.bodies"],
}
