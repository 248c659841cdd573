"""Does what a person has pressed: a refusal becomes a sentence, what is gone is not found."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.http import Http404

from ..exceptions import (
    BatchNotFound,
    NotPermitted,
    ScheduleNotFound,
    TaskControlError,
    TaskNotFound,
)

#: What a room raises of a row that went meanwhile.
GONE = (ObjectDoesNotExist, TaskNotFound, BatchNotFound, ScheduleNotFound)


def outcome_of(act: Callable[[], str | None]) -> tuple[str | None, int]:
    """Do ``act``; return what the person reads, and its level as a message.

    Raises PermissionDenied or Http404. All else that a room refuses, for whatever reason,
    is read by the person: no page of an error.
    """
    try:
        return act(), messages.SUCCESS
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from error
    except GONE as error:
        raise Http404 from error
    except TaskControlError as error:
        return str(error), messages.WARNING
