"""What became of each of the tasks that a command was given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .exceptions import TaskControlError
from .wording import as_json as to_json


@dataclass(frozen=True)
class Answer:
    """One task by the name it was given, whether it was done, and a sentence about it."""

    task: str
    done: bool
    text: str


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
