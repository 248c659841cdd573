"""The site's settings as in production: PostgreSQL, Redis, DEBUG off."""

from __future__ import annotations

import os

os.environ.setdefault("DEBUG", "0")
os.environ.setdefault("SECRET_KEY", "only-for-measuring")

from project.settings import *  # noqa: F403
from project.settings import TASKCONTROL

TASKCONTROL = {**TASKCONTROL, "ALLOWED_MODULES": ["bench.bodies"]}
