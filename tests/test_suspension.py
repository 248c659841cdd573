"""The one row that says whether anything is promoted, by whom and why not."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser

import taskcontrol
from taskcontrol import bell
from taskcontrol.models import DispatcherState, WaitInterval
from taskcontrol.suspension import can_dispatch_now, dispatcher_state, toggle_dispatcher
from tests.factories import make_user
from tests.waiting import race

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def test_the_row_makes_itself():
    DispatcherState.objects.all().delete()

    state = dispatcher_state()

    assert (state.suspended, len(state.site)) == (False, 8)
    assert int(state.site, 16) >= 0
    assert dispatcher_state().site == state.site


@pytest.mark.django_db(transaction=True)
def test_many_first_users_make_one_row():
    DispatcherState.objects.all().delete()

    states = race(*[dispatcher_state] * 6)

    assert len({state.site for state in states}) == 1


def test_a_suspension_says_who_when_and_why():
    user = make_user("ann", "control_dispatcher")

    state = toggle_dispatcher(enable=False, user=user, reason="moving house")

    assert can_dispatch_now() is False
    assert (state.suspended_by, state.suspended_reason) == (user, "moving house")
    assert state.suspended_at is not None
    interval = WaitInterval.objects.get()
    assert (interval.scope, interval.reason, interval.actor, interval.to_at) == (
        WaitInterval.Scope.DISPATCHER,
        "moving house",
        user,
        None,
    )


def test_after_it_goes_on_nothing_of_the_suspension_is_left_but_its_interval():
    toggle_dispatcher(False, reason="why")

    state = toggle_dispatcher(True)

    assert can_dispatch_now() is True
    assert (state.suspended_by, state.suspended_at, state.suspended_reason) == (
        None,
        None,
        "",
    )
    interval = WaitInterval.objects.get()
    assert interval.from_at <= interval.to_at


@pytest.mark.parametrize("enable", [True, False])
def test_a_second_call_changes_nothing(enable):
    toggle_dispatcher(not enable)
    first = toggle_dispatcher(enable, reason="first")

    second = toggle_dispatcher(enable, reason="second")

    assert (second.suspended_reason, second.suspended_at) == (
        first.suspended_reason,
        first.suspended_at,
    )
    assert WaitInterval.objects.count() == 1


@pytest.mark.parametrize("user", ["ann", None])
def test_a_user_without_the_permission_is_refused(user):
    given = make_user(user) if user else AnonymousUser()

    for enable in (True, False):
        with pytest.raises(PermissionError, match="control_dispatcher"):
            toggle_dispatcher(enable, user=given)

    assert can_dispatch_now() is True


def test_a_reason_that_no_database_takes_is_stored_readably():
    state = toggle_dispatcher(False, reason="no\0pe " + "x" * 400)

    assert state.suspended_reason == "no\ufffdpe " + "x" * 294
    assert WaitInterval.objects.get().reason == state.suspended_reason


def test_both_ring_the_bell(monkeypatch, django_capture_on_commit_callbacks):
    rung = []
    monkeypatch.setattr(bell, "ring", lambda: rung.append(1))

    with django_capture_on_commit_callbacks(execute=True):
        toggle_dispatcher(False)
        toggle_dispatcher(True)

    assert len(rung) == 2


@pytest.mark.django_db(transaction=True)
def test_many_who_suspend_at_once_make_one_interval():
    race(*[lambda: toggle_dispatcher(False)] * 5)

    assert WaitInterval.objects.count() == 1


def test_the_front_door_and_the_dispatcher_lead_here():
    from taskcontrol import dispatch

    assert taskcontrol.toggle_dispatcher is dispatch.toggle_dispatcher is toggle_dispatcher
    assert taskcontrol.can_dispatch_now is dispatch.can_dispatch_now is can_dispatch_now
