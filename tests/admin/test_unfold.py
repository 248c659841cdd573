"""Every screen under django-unfold, in a process of its own: apps are loaded once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.only_on("sqlite")  # the process brings its own database

LOOK = """
import json, sys
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib import admin
from django.core.checks import run_checks
from django.test import Client
from taskcontrol.models import TaskLog
from tests.factories import make_user
from tests.live.furniture import furnish
from tests.live.test_accessibility import SCREENS
from unfold.admin import ModelAdmin

boss = make_user("boss", is_staff=True, is_superuser=True)
rows, client = furnish(boss), Client()
client.force_login(boss)
addresses = {name: address(rows) for name, address in SCREENS.items()}
addresses["page of another app"] = "/admin/auth/user/"
pages = {name: client.get(url, follow=True) for name, url in addresses.items()}
print(json.dumps({
    "themed": isinstance(admin.site.get_model_admin(TaskLog), ModelAdmin),
    "checks": [one.id for one in run_checks(tags=["taskcontrol"])],
    "pages": {name: [page.status_code, page.content.decode()] for name, page in pages.items()},
}))
"""
#: A part of ours that only the right template shows.
OURS = {
    "overview": 'data-tc-live="cards"',
    "running": 'data-tc-live="running"',
    "tasks": 'data-tc-live="tabs"',
    "started": 'data-tc-live="story"',
    "failed": "Retry with edited arguments",
    "edited retry": "Run the copy",
    "batch": 'data-tc-live="batch"',
    "type": 'data-tc-live="places"',
    "queues": 'data-tc-live="queues"',
    "queue": 'data-tc-live="flow"',
    "workers": 'data-tc-live="workers"',
    "worker": 'data-tc-live="worker"',
    "schedule": 'data-tc-live="schedule"',
    "dispatcher": "Suspended",
    "page of another app": "taskcontrol/taskcontrol",
}


@pytest.fixture(scope="module")
def seen() -> Any:
    """What the process saw."""
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.unfolded"}
    done = subprocess.run(
        [sys.executable, "-c", LOOK], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_screen_opens_under_unfold(seen):
    assert seen["themed"]
    statuses = {name: status for name, (status, _) in seen["pages"].items()}
    assert statuses == dict.fromkeys(statuses, 200)


@pytest.mark.parametrize("screen", OURS)
def test_our_part_of_a_screen_stands_in_the_page_of_unfold(seen, screen):
    page = seen["pages"][screen][1]
    assert OURS[screen] in page
    assert "unfold" in page


def test_the_order_that_the_documents_name_has_no_finding(seen):
    assert "taskcontrol.W046" not in seen["checks"]
