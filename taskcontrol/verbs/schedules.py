"""List the schedules, show one, run, skip, enable or disable some.

Without an act it lists them all; `show` adds the next five runs and what was skipped last.
`run` makes a task now, beside the times of the schedule, `skip` passes over its next run.
A schedule that is enabled waits for its next time. `adopt` turns a periodic task of
django-celery-beat that sends a Celery task into a schedule.

    manage.py taskcontrol schedules
    manage.py taskcontrol schedules show "Reconcile payments"
    manage.py taskcontrol schedules run "Reconcile payments"
    manage.py taskcontrol schedules disable "Reconcile payments" nightly

Exit status: 0, or 1 when there is no such schedule or the act was refused for one.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError, OutputWrapper

if TYPE_CHECKING:
    from ..answers import Answer
    from ..models import Schedule

LIST, SHOW = "list", "show"
ACTS = ("run", "skip", "enable", "disable", "adopt")


def add_arguments(parser: ArgumentParser) -> None:
    """Take what to do, with which schedules, and how to answer."""
    parser.add_argument(
        "act", nargs="?", default=LIST, choices=[LIST, SHOW, *ACTS], help="list if left out"
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="the names of schedules")
    parser.add_argument("--json", action="store_true", help="answer as a list of objects")


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Do it, and say what came of it."""
    act, names = options["act"], options["names"]
    if act != LIST and not names:
        raise CommandError(f"Which schedules? Give their names: schedules {act} NAME …")
    if act in ACTS:
        from ..answers import answer_each, tell

        answers = answer_each(names, lambda name: _do(act, name))
        tell(answers, stdout, as_json=options["json"])
    else:
        _tell_of(_found(names), stdout, as_json=options["json"], whole=act == SHOW)


def _do(act: str, name: str) -> Answer:
    from .. import schedules
    from ..answers import Answer
    from ..wording import moment

    if act == "run":
        return Answer(name, done=True, text=f"made task {schedules.run(name).pk}")
    if act == "skip":
        return Answer(name, done=True, text=schedules.skip_next(name).skipped_why)
    if act == "disable":
        schedules.disable(name)
        return Answer(name, done=True, text="disabled")
    switch = schedules.adopt if act == "adopt" else schedules.enable
    at = switch(name).next_run_at
    return Answer(name, done=True, text=f"runs next at {moment(at) if at else 'no time'}")


def _found(names: Sequence[str]) -> list[Schedule]:
    from ..models import Schedule
    from ..schedules import find_schedule
    from ..timekeeping import keep_time

    keep_time()
    return [find_schedule(name) for name in names] or list(Schedule.objects.all())


def _tell_of(
    found: list[Schedule], stdout: OutputWrapper, *, as_json: bool, whole: bool
) -> None:
    from ..wording import as_json as to_json, table

    if as_json:
        stdout.write(to_json([_facts(one) for one in found]))
    elif whole:
        stdout.write("\n\n".join(map(_page, found)))
    elif found:
        header = ["Schedule", "When", "Next run", "Last run", "Runs", "Skipped"]
        stdout.write(table(header, map(_line, found)))
    else:
        stdout.write("There are no schedules.")


def _facts(one: Schedule) -> dict[str, Any]:
    from ..schedules import next_runs

    columns = (
        "name",
        "method",
        "timetable",
        "enabled",
        "error",
        "last_run_at",
        "run_count",
    )
    more = ("skipped_count", "skips", "on_missed", "scheduled_against")
    return {
        **{column: getattr(one, column) for column in (*columns, *more)},
        "last_task": one.last_task_id,
        "next_runs": next_runs(one),
    }


def _line(one: Schedule) -> tuple[object, ...]:
    last = _time(one.last_run_at)
    return one.name, one.timetable, _next(one), last, one.run_count, one.skipped_count


def _next(one: Schedule) -> str:
    if one.error:
        return f"never: {one.error}" if one.next_run_at is None else f"! {one.error}"
    return _time(one.next_run_at) if one.enabled else "disabled"


def _time(at: Any) -> str:
    from ..wording import moment

    return moment(at) if at else "-"


def _page(one: Schedule) -> str:
    from ..schedules import next_runs
    from ..wording import counted

    last = (
        f"{_time(one.last_run_at)} (task {one.last_task_id})" if one.last_task_id else "-"
    )
    lines = [
        one.name,
        f"  does     {one.method}",
        f"  when     {one.timetable or '-'}",
        f"  next     {_next(one)}",
        *(f"           {_time(at)}" for at in next_runs(one)[1:]),
        f"  last     {last}",
        f"  made     {counted(one.run_count, 'task')}",
        f"  skipped  {counted(one.skipped_count, 'run')}",
        *(f"           {why}" for why in one.skips),
    ]
    return "\n".join(lines)
