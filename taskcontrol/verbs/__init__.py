"""The verbs of ``manage.py taskcontrol VERB``, one file each.

To add a verb, add a file. Its name is the verb (``retry_failed.py`` is ``retry-failed``),
its docstring is what ``--help`` teaches: the first line stands in the list of all verbs,
the rest says when to use it, what it changes and what it does not. Then two functions::

    def add_arguments(parser: ArgumentParser) -> None:
        parser.add_argument("--limit", type=int, help="most tasks to promote")

    def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
        promoted = dispatch_pending(limit=options["limit"])
        stdout.write(f"Promoted {promoted} tasks.")

A verb parses, calls one room and reports what came of it.
It imports what is heavy inside ``handle``, because ``--help`` loads every verb. To end with
an error raise CommandError (with ``returncode=`` where a script would tell errors apart);
the project's own errors become one by themselves.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType


def all_verbs() -> dict[str, ModuleType]:
    """Return every verb by its name, in the order of the alphabet."""
    names = sorted(found.name for found in pkgutil.iter_modules(__path__))
    return {name.replace("_", "-"): import_module(f"{__name__}.{name}") for name in names}
