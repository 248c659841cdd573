"""The directory in which one run of the tests keeps its databases, sockets and logs."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def _directory() -> Path:
    given = os.environ.get("TASKCONTROL_TEST_DIR")
    if given:
        return Path(given)
    made = Path(tempfile.mkdtemp(prefix="taskcontrol-"))
    # A database server that does not run as root must be able to walk through.
    made.chmod(0o711)
    os.environ["TASKCONTROL_TEST_DIR"] = str(made)
    if not os.environ.get("TASKCONTROL_TEST_KEEP"):
        atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


LAB = _directory()
#: Where the bodies in ``tests.tasks`` write down what ran when.
RECORD = LAB / "record.jsonl"
#: The socket of the broker of the run.
BROKER_SOCKET = LAB / "broker.sock"

os.environ.setdefault("TASKCONTROL_DATA_DIR", str(LAB))
