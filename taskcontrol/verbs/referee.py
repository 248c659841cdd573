"""Install the referee, remove it, or say what it has found (PostgreSQL only).

The referee is a set of triggers of the database. They check each write to a task against
the rules of its life, which stand in them a second time: the moves, the attempts, the limits,
that an end is final. With --record, which is meant for production, a write that breaks a
rule goes on and becomes an incident; with --raise, which is meant for tests, it fails. Without an
act it says how things are; `doctor` does so too. Install it again after each update.

    manage.py taskcontrol referee install --record
    manage.py taskcontrol referee
    manage.py taskcontrol referee remove

Exit status: 0; of status 1 when something was recorded or some of it is missing, and 1 where
the database is another one.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError, OutputWrapper

if TYPE_CHECKING:
    from ..models import Incident

INSTALL, REMOVE, RESOLVE, STATUS = "install", "remove", "resolve", "status"
#: Incidents that are shown.
SHOWN = 20


def add_arguments(parser: ArgumentParser) -> None:
    """Take what to do, what becomes of a broken rule, and how to answer."""
    parser.add_argument(
        "act",
        nargs="?",
        default=STATUS,
        choices=[INSTALL, REMOVE, RESOLVE, STATUS],
        help="status if left out",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--record",
        dest="mode",
        action="store_const",
        const="record",
        help="write down what breaks a rule (the default of install)",
    )
    mode.add_argument(
        "--raise", dest="mode", action="store_const", const="raise", help="refuse it"
    )
    parser.add_argument(
        "--json", action="store_true", help="{mode, current, missing, recorded, newest}"
    )


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Do it, and say how things are then."""
    from .. import incidents, referee
    from ..wording import as_json

    act, mode = options["act"], options["mode"]
    if mode and act != INSTALL:
        raise CommandError(f"--{mode} belongs to install: referee install --{mode}")
    if act == INSTALL:
        referee.install(referee.Mode(mode or "record"))
    elif act == REMOVE:
        referee.remove()
    elif act == RESOLVE:
        ids = list(referee.recorded().values_list("pk", flat=True))
        incidents.resolve(ids, repair="a person has looked after it")
    state, number = referee.state(), referee.recorded().count()
    newest = list(referee.recorded()[:SHOWN])
    if options["json"]:
        facts = state._asdict() if state else {"mode": None}
        told = [{"last_at": one.last_at, "found": one.found} for one in newest]
        stdout.write(as_json({**facts, "recorded": number, "newest": told}))
    else:
        stdout.write(_said(referee.describe(state), number, newest))
    if act == STATUS and (number or (state and state.missing)):
        raise SystemExit(1)


def _said(state: str, number: int, newest: list[Incident]) -> str:
    from ..wording import counted, moment

    lines = [f"The referee is {state}."]
    if number:
        lines.append(f"{counted(number, 'incident')} recorded, the newest first:")
    lines += [f"  {moment(one.last_at)}  {one.found}" for one in newest]
    return "\n".join(lines)
