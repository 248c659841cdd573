"""The live module on the pages of admin that are not ours."""

from __future__ import annotations

import pytest
from django.test import Client

from .conftest import text_of

MODULE = "taskcontrol/taskcontrol.js"


@pytest.mark.parametrize("path", ["/admin/", "/admin/auth/user/", "/admin/auth/user/add/"])
def test_every_page_of_admin_has_the_module(boss, path):
    assert MODULE in text_of(boss.get(path))


def test_the_login_has_none_since_nobody_is_there_to_be_told(db):
    assert MODULE not in text_of(Client().get("/admin/login/"))
