"""The settings and their defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from taskcontrol import conf as conf_module
from taskcontrol.conf import Conf, conf, known_queues, known_settings, queue_timeout

SOURCE = Path(conf_module.__file__).read_text()


@pytest.mark.parametrize("name", sorted(known_settings()))
def test_every_setting_has_a_default_and_a_meaning(name):
    assert hasattr(Conf, name)
    assert re.search(rf"#: [^\n]+\n    {name}:", SOURCE)


def test_the_default_holds_where_nothing_is_set(settings):
    settings.TASKCONTROL = {}

    assert conf.LOST_LIMIT == 3


def test_a_setting_is_seen_as_soon_as_it_changes(settings):
    settings.TASKCONTROL = {"LOST_LIMIT": 7}
    assert conf.LOST_LIMIT == 7

    settings.TASKCONTROL = {"LOST_LIMIT": 8}
    assert conf.LOST_LIMIT == 8


@pytest.mark.parametrize("given", [None, {}])
def test_a_site_needs_no_settings_at_all(settings, given):
    settings.TASKCONTROL = given

    assert conf.DATABASE == "default"


def test_a_site_without_the_dict_gets_the_defaults(settings):
    del settings.TASKCONTROL

    assert conf.DISPATCH_PAGE == 500


def test_a_name_that_is_no_setting_is_an_error():
    with pytest.raises(AttributeError, match="LOST_LIMITS"):
        conf.LOST_LIMITS  # noqa: B018 - reading is the act


def test_the_sites_own_settings_are_all_known(settings):
    assert set(settings.TASKCONTROL) <= known_settings()


def test_the_three_standard_queues_are_always_there(settings):
    settings.TASKCONTROL = {"QUEUES": {"reports": {"timeout": 60}}}

    assert set(known_queues()) == {"short", "default", "long", "reports"}


@pytest.mark.parametrize(
    ("queue", "seconds"), [("short", 300), ("default", 300), ("long", 1500), ("mail", 300)]
)
def test_each_queue_has_its_timeout(settings, queue, seconds):
    settings.TASKCONTROL = {"QUEUES": {"mail": {}}}

    assert queue_timeout(queue) == seconds


def test_a_standard_queue_takes_another_timeout(settings):
    settings.TASKCONTROL = {"QUEUES": {"short": {"timeout": 5}}}

    assert queue_timeout("short") == 5
