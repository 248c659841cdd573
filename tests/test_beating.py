"""A silent beat is visible."""

from __future__ import annotations

import pytest

from taskcontrol import beating
from taskcontrol.models import DispatcherState
from tests.factories import seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def test_a_beat_that_never_came_is_silent_p11():
    assert beating.beat_is_silent() is True


def test_a_beat_is_heard_for_a_minute_p11():
    DispatcherState.objects.all().delete()
    beating.beat_was_here()
    assert beating.beat_is_silent() is False

    DispatcherState.objects.update(beat_seen_at=seconds_ago(50))
    assert beating.beat_is_silent() is False

    DispatcherState.objects.update(beat_seen_at=seconds_ago(70))
    assert beating.beat_is_silent() is True
