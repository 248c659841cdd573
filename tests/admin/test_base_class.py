"""The one setting that puts all screens on the class of a theme."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from taskcontrol.checks.oursettings import check_settings

#: In a process of its own: the screens are made when admin starts.
LOOK = """
import django
django.setup()
from django.contrib import admin
ours = [a for m, a in admin.site._registry.items() if m._meta.app_label == "taskcontrol"]
print(len(ours), all(getattr(a, "is_themed", False) for a in ours))
"""


def test_every_screen_is_made_of_the_class_that_the_setting_names():
    given = {"ADMIN_BASE": "tests.theme.ThemedAdmin"}
    env = {**os.environ, "TASKCONTROL_TEST_CONF": json.dumps(given)}

    told = subprocess.run(
        [sys.executable, "-c", LOOK], env=env, capture_output=True, text=True, check=True
    )

    number, all_themed = told.stdout.split()
    assert int(number) >= 8
    assert all_themed == "True"


@pytest.mark.parametrize(
    "path", ["no.such.Class", "taskcontrol.enqueue", "django.contrib.admin.AdminSite", ""]
)
def test_what_is_no_class_for_screens_is_told_by_check(conf, path):
    conf(ADMIN_BASE=path)
    told = [str(one.msg) for one in check_settings()]
    assert any("'ADMIN_BASE'" in one and "ModelAdmin" in one for one in told)


def test_a_class_of_a_theme_passes_the_check(conf):
    conf(ADMIN_BASE="tests.theme.ThemedAdmin")
    assert not [one for one in check_settings() if "ADMIN_BASE" in str(one.msg)]
