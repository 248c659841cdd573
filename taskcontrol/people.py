"""Names the person behind a key that stands in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from django.contrib.auth import get_user_model

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser

    #: Who asks: a user, or whoever a request has before a login.
    Person: TypeAlias = AbstractBaseUser | AnonymousUser


def name_of(user_id: Any) -> str:
    """Return the name of a user for a sentence; ``the system`` for nobody.

    Asks the users' own database, which may be another one than that of the tasks.
    """
    if user_id is None:
        return "the system"
    user = get_user_model()._default_manager.filter(pk=user_id).first()
    return f"user {user_id} (deleted)" if user is None else str(user.get_username())
