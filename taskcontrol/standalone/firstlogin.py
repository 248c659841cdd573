"""Makes the first superuser of a site that has none, and remembers the password."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import models

NAME = "admin"


def first_login(folder: Path) -> str:
    """Return the sentence that says how to log in, after making the user if there is none."""
    if not _has_superusers():
        return "as this site has it"
    kept = folder / "admin-password"
    users = get_user_model()._default_manager
    superusers = users.filter(is_superuser=True, is_active=True)
    if not superusers.exists():
        return _make(users, kept)
    password = kept.read_text().strip() if kept.exists() else ""
    for user in superusers.filter(**{_login_field(): _login_name()}):
        if password and user.check_password(password):
            return f"{user.get_username()} / {password}    (kept in {kept})"
    return "as before (manage.py changepassword sets a new password)"


def _has_superusers() -> bool:
    if not apps.is_installed("django.contrib.auth"):
        return False
    from django.contrib.auth.models import PermissionsMixin

    return issubclass(get_user_model(), PermissionsMixin)


def _make(users: Any, kept: Path) -> str:
    fields = {_login_field(): _login_name()}
    for name in get_user_model().REQUIRED_FIELDS:
        if not _is_email(name):
            return "none yet (manage.py createsuperuser makes one)"
        fields[name] = _email()
    password = secrets.token_urlsafe(9)
    _keep(kept, password)
    user = users.create_superuser(password=password, **fields)
    return f"{user.get_username()} / {password}    (kept in {kept})"


def _keep(kept: Path, password: str) -> None:
    """Write the password where only this user can read it, from the first moment."""
    kept.unlink(missing_ok=True)
    fd = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(f"{password}\n")


def _login_field() -> str:
    return get_user_model().USERNAME_FIELD


def _login_name() -> str:
    return _email() if _is_email(_login_field()) else NAME


def _is_email(name: str) -> bool:
    return isinstance(get_user_model()._meta.get_field(name), models.EmailField)


def _email() -> str:
    return f"{NAME}@example.com"
