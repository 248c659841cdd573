"""What a request enqueues is created by its user, sync or async."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.contrib.auth.models import AnonymousUser
from django.db import connections
from django.http import HttpResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.utils.functional import SimpleLazyObject

import taskcontrol
from taskcontrol.context import current_user
from taskcontrol.middleware import CurrentUserMiddleware
from taskcontrol.models import TaskLog
from tests.factories import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def view(request):
    return HttpResponse(str(taskcontrol.enqueue("tests.tasks.nothing").pk))


def test_the_user_of_the_request_is_the_creator_p8():
    request = RequestFactory().get("/")
    request.user = make_user("ann")

    answer = CurrentUserMiddleware(view)(request)

    assert TaskLog.objects.get(pk=int(answer.content)).created_by == request.user
    assert current_user() is None


@pytest.mark.parametrize("user", [None, AnonymousUser()], ids=["none", "anonymous"])
def test_nobodys_request_creates_nobodys_task(user):
    request = RequestFactory().get("/")
    if user is not None:
        request.user = user

    CurrentUserMiddleware(view)(request)

    assert TaskLog.objects.get().created_by is None


def test_a_request_that_fails_leaves_no_user_behind():
    request = RequestFactory().get("/")
    request.user = make_user("ann")

    def broken(_request):
        raise RuntimeError("view")

    with pytest.raises(RuntimeError):
        CurrentUserMiddleware(broken)(request)

    assert current_user() is None


def test_an_async_view_under_wsgi_does_not_look_the_user_up():
    async def async_view(_request):
        return HttpResponse("here")

    def looked_up():
        raise AssertionError("the user was looked up")

    request = RequestFactory().get("/")
    request.user = SimpleLazyObject(looked_up)

    # As Django's handler does it when a middleware is not async.
    answer = CurrentUserMiddleware(async_to_sync(async_view))(request)

    assert answer.content == b"here"


@pytest.mark.django_db(transaction=True)
def test_async_requests_at_once_keep_their_users_apart_p8():
    users = {name: make_user(name) for name in ("ann", "bob")}
    both_are_in = []

    async def async_view(request):
        both_are_in.append(request)
        while len(both_are_in) < 2:
            await asyncio.sleep(0)
        return await sync_to_async(view_in_a_thread)(request)

    def view_in_a_thread(request):
        try:
            return view(request)
        finally:
            connections.close_all()

    middleware = CurrentUserMiddleware(async_view)
    assert iscoroutinefunction(middleware)

    async def ask(user):
        request = AsyncRequestFactory().get("/")
        request.user = user
        return int((await middleware(request)).content)

    async def ask_all():
        return await asyncio.gather(*map(ask, users.values()))

    keys = asyncio.run(ask_all())

    created = [TaskLog.objects.get(pk=key).created_by.username for key in keys]
    assert created == ["ann", "bob"]


def test_the_site_has_it_behind_the_login(client):
    from django.conf import settings

    names = [name.rpartition(".")[2] for name in settings.MIDDLEWARE]
    assert names.index("CurrentUserMiddleware") > names.index("AuthenticationMiddleware")
