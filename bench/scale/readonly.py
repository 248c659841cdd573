"""Settings of a site that reads tasks from a standby: logins and sessions stay where they are."""

from __future__ import annotations

import os

from bench.settings import *  # noqa: F403
from bench.settings import DATABASES, TASKCONTROL

DATABASES = {
    **DATABASES,
    "replica": {
        **DATABASES["default"],
        "PORT": os.environ["TASKCONTROL_BENCH_REPLICA"],
    },
}
TASKCONTROL = {**TASKCONTROL, "DATABASE": "replica"}
