"""``manage.py taskcontrol VERB``: a thin front for the files in ``taskcontrol/verbs``."""

from __future__ import annotations

import os
import sys
from argparse import SUPPRESS, RawDescriptionHelpFormatter
from types import ModuleType
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, ProgrammingError

from taskcontrol.exceptions import TaskControlError
from taskcontrol.verbs import all_verbs
from taskcontrol.wording import one_line


class Command(BaseCommand):
    """Parses the verb and its options, and calls its file."""

    help = (
        "Run, look at and steer the background tasks of this project. "
        "`manage.py taskcontrol VERB --help` teaches one verb."
    )
    # The verbs that start a server run them, the others must work on a half-broken site.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Give each verb a parser of its own."""
        front = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb")
        for name, verb in all_verbs().items():
            text = (verb.__doc__ or name).strip()
            one = front.add_parser(
                name,
                help=text.partition("\n")[0],
                description=text,
                formatter_class=RawDescriptionHelpFormatter,
            )
            _add_django_options(one)
            verb.add_arguments(one)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the verb; without one, teach."""
        if not options["verb"]:
            self.print_help("manage.py", "taskcontrol")
            return
        verb: ModuleType = all_verbs()[options["verb"]]
        try:
            verb.handle(options, self.stdout)
            self.stdout.flush()
        except BrokenPipeError:
            # Whoever read has read enough, as `| head` does; what is left goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (TaskControlError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        except (OperationalError, ProgrammingError) as error:
            why = one_line(error)
            raise CommandError(
                f"The database: {why}. `manage.py taskcontrol doctor` says what to do."
            ) from error


def _add_django_options(parser: CommandParser) -> None:
    """Accept after the verb what Django accepts after every other command."""
    for option in ("--settings", "--pythonpath"):
        parser.add_argument(option, default=SUPPRESS, help=SUPPRESS)
    for flag in ("--traceback", "--no-color"):
        parser.add_argument(flag, action="store_true", default=SUPPRESS, help=SUPPRESS)
