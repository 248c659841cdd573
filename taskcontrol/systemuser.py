"""The user as whom schedules run: the one of the settings, or one who cannot log in."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db import IntegrityError, models, transaction

from .conf import conf
from .exceptions import InvalidCall

#: The name of the one that is made.
NAME = "taskcontrol-scheduler"


def scheduler_user() -> Any:
    """Return the user of ``TASKCONTROL["SCHEDULER_USER"]``, or else the system's own.

    That one is made when first needed: without a password, so that nobody logs in as it,
    but active, so that it can be given permissions. Raises InvalidCall when there is no
    such user or it cannot be made.
    """
    model = get_user_model()
    name = conf.SCHEDULER_USER
    field = model._meta.get_field(model.USERNAME_FIELD)
    wanted = name or _own_name(field)
    found = model._default_manager.filter(**{model.USERNAME_FIELD: wanted}).first()
    if found is None and name:
        raise InvalidCall(
            f'There is no user {name!r}, who is TASKCONTROL["SCHEDULER_USER"]. Make the '
            "user, or name another one."
        )
    return found or _make(model, wanted)


def _own_name(field: Any) -> str:
    return f"{NAME}@localhost" if isinstance(field, models.EmailField) else NAME


def _make(model: Any, name: str) -> Any:
    manager = model._default_manager
    user = model(**{model.USERNAME_FIELD: name})
    user.set_unusable_password()
    try:
        with transaction.atomic(using=manager.db):
            user.save(using=manager.db)
    except IntegrityError as error:
        # Another process made it at the same moment, or the model wants more columns.
        found = manager.filter(**{model.USERNAME_FIELD: name}).first()
        if found is not None:
            return found
        raise InvalidCall(
            f"The user {name!r}, as whom schedules run, cannot be made: {error}. Make a "
            'user yourself and name it in TASKCONTROL["SCHEDULER_USER"].'
        ) from error
    return user
