"""What became of each of the tasks that a command was given."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.core.management.base import CommandError

from .exceptions import TaskControlError
from .wording import as_json as to_json, counted


@dataclass(frozen=True)
class Answer:
    """One task or batch as it was named, whether it was done, and a sentence about it."""

    task: str
    done: bool
    text: str


def take_targets(parser: ArgumentParser) -> None:
    """Let a verb take tasks by their numbers, and batches by ``--batch``."""
    parser.add_argument("tasks", metavar="ID", nargs="*", help="the numbers of the tasks")
    parser.add_argument(
        "--batch",
        metavar="ID",
        action="append",
        default=[],
        help="all tasks of this batch; may be repeated",
    )


def answer_targets(
    options: Mapping[str, Any],
    act: Callable[[str], Answer],
    act_on_batch: Callable[[str], int],
    done: str,
) -> list[Answer]:
    """Return the answers for the tasks, then for the batches: ``12 tasks canceled``."""
    if not options["tasks"] and not options["batch"]:
        raise CommandError("Name tasks by their numbers, or a batch with --batch.")

    def of_batch(key: str) -> Answer:
        return Answer(key, done=True, text=f"{counted(act_on_batch(key), 'task')} {done}")

    return [*answer_each(options["tasks"], act), *answer_each(options["batch"], of_batch)]


def answer_each(names: Iterable[str], act: Callable[[str], Answer]) -> list[Answer]:
    """Return what ``act`` says of each name; a refusal is an answer and stops no other."""
    answers = []
    for name in names:
        try:
            answers.append(act(name))
        except TaskControlError as error:
            answers.append(Answer(name, done=False, text=str(error)))
    return answers


def tell(answers: list[Answer], stdout: Any, *, as_json: bool) -> None:
    """Write one line for each, or all as JSON; exit with 1 when one was not done."""
    if as_json:
        stdout.write(to_json(answers))
    else:
        for answer in answers:
            stdout.write(f"{answer.task}: {answer.text}")
    if not all(answer.done for answer in answers):
        raise SystemExit(1)
