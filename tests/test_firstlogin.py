"""The first login: made once, told again, never forced on a site that has one."""

from __future__ import annotations

import stat

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models

from taskcontrol.standalone.firstlogin import first_login

pytestmark = pytest.mark.django_db


def test_a_site_without_superusers_gets_one_and_the_password_is_kept(tmp_path):
    told = first_login(tmp_path)

    user = get_user_model().objects.get(is_superuser=True)
    kept = tmp_path / "admin-password"
    password = kept.read_text().strip()
    assert told == f"admin / {password}    (kept in {kept})"
    assert user.check_password(password)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_the_second_time_it_is_told_again(tmp_path):
    assert first_login(tmp_path) == first_login(tmp_path)
    assert get_user_model().objects.count() == 1


def test_a_password_that_a_person_changed_stays(tmp_path):
    first_login(tmp_path)
    user = get_user_model().objects.get()
    user.set_password("mine")
    user.save()

    assert first_login(tmp_path).startswith("as before")
    assert get_user_model().objects.get().check_password("mine")


def test_a_site_with_a_superuser_of_its_own_gets_no_other(tmp_path):
    get_user_model().objects.create_superuser("ada", password="engine")

    assert first_login(tmp_path).startswith("as before")
    assert get_user_model().objects.count() == 1
    assert not (tmp_path / "admin-password").exists()


def test_a_kept_password_of_another_database_is_replaced(tmp_path):
    (tmp_path / "admin-password").write_text("old\n")
    (tmp_path / "admin-password").chmod(0o644)

    assert "old" not in first_login(tmp_path)
    assert stat.S_IMODE((tmp_path / "admin-password").stat().st_mode) == 0o600


def test_a_user_model_that_needs_more_than_a_password_is_left_to_the_person(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(get_user_model(), "REQUIRED_FIELDS", ["email", "last_name"])

    assert first_login(tmp_path) == "none yet (manage.py createsuperuser makes one)"
    assert get_user_model().objects.count() == 0


def test_a_login_by_email_gets_an_email(tmp_path, monkeypatch):
    monkeypatch.setattr(
        get_user_model()._meta.get_field("username"), "__class__", models.EmailField
    )

    assert first_login(tmp_path).startswith("admin@example.com / ")


def test_a_site_whose_users_know_no_superusers_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "taskcontrol.standalone.firstlogin.get_user_model", lambda: AbstractBaseUser
    )

    assert first_login(tmp_path) == "as this site has it"


def test_a_site_without_users_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("django.apps.apps.is_installed", lambda _name: False)

    assert first_login(tmp_path) == "as this site has it"
