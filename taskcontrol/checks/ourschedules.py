"""System checks of ``TASKCONTROL["SCHEDULES"]``: keys, expressions, and what they call."""

from __future__ import annotations

from collections.abc import Iterator

from django.core.checks import CheckMessage, Error

from ..conf import conf
from ..exceptions import MethodNotAllowed, MethodNotCallable, MethodNotFound
from ..registry import resolve
from ..scheduledcode import schedules_of_settings
from ..timetables import beat_is_installed


def check_schedules() -> Iterator[CheckMessage]:
    """Yield what is wrong with the schedules of the settings; the others run all the same."""
    if conf.SCHEDULES and not beat_is_installed():
        yield Error(
            'TASKCONTROL["SCHEDULES"] needs django-celery-beat, which is not installed.',
            hint='pip install "taskcontrol[beat]", and add "django_celery_beat" to '
            "INSTALLED_APPS.",
            id="taskcontrol.E041",
        )
    found, wrong = schedules_of_settings()
    for why in wrong:
        yield Error(
            why,
            hint='Write {"daily": ["app.tasks.f"], "cron": {"*/15 * * * *": ["app.tasks.g"]}}.',
            id="taskcontrol.E042",
        )
    for one in found:
        try:
            resolve(one.call["method"])
        except (MethodNotAllowed, MethodNotCallable, MethodNotFound) as error:
            yield Error(
                f"The schedule {one.name} cannot run: {error}",
                hint='Correct its path in TASKCONTROL["SCHEDULES"].',
                id="taskcontrol.E043",
            )
