"""Who gets a stream, how many there may be, and how soon one ends that should."""

from __future__ import annotations

import uuid
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncRequestFactory

from taskcontrol import pokes
from taskcontrol.live import ear, streams
from taskcontrol.live.asking import watch_token
from taskcontrol.live.reader import Reader
from taskcontrol.live.watching import Asked, Watch

UUIDS = [uuid.UUID(int=number) for number in (1, 2)]


@pytest.fixture
def opened(monkeypatch):
    """Open streams as if: ``opened(user_id, number)``."""
    reader = Reader()
    monkeypatch.setattr(streams, "reader", lambda: reader)

    def open_streams(user_id, number=1):
        watches = [Watch(Asked(user_id), ring=lambda: None) for _ in range(number)]
        reader._watches.update(watches)
        return watches

    open_streams.reader = reader
    return open_streams


def status(user_id=None, token=""):
    """Return how a request for a stream is answered."""
    request = AsyncRequestFactory().get(f"/?tasks=1&tokens={token}")
    if user_id is not None:
        request.user = SimpleNamespace(
            pk=user_id, is_authenticated=True, has_perm=lambda _permission: False
        )
    return async_to_sync(streams.stream)(request).status_code


@pytest.mark.usefixtures("opened")
def test_who_has_neither_a_login_nor_a_valid_token_gets_no_stream_p8():
    assert status() == 403
    assert status(token="forged:token") == 403
    assert status(token=watch_token(1)) == 200
    assert status(user_id=1) == 200


def test_streams_without_a_login_are_limited_together(opened):
    opened(None, streams.MOST_UNKNOWN - 1)
    assert status(token=watch_token(1)) == 200
    opened(None)
    assert status(token=watch_token(1)) == 503
    assert status(user_id=1) == 200


def test_streams_of_one_person_are_limited(opened):
    opened(1, streams.MOST_STREAMS)
    assert status(user_id=1) == 503
    assert status(user_id=2) == 200


def test_streams_of_all_are_limited(opened):
    for user_id in range(streams.MOST_OPEN):
        opened(user_id)
    assert status(user_id=-1) == 503
    assert status(token=watch_token(1)) == 503


def test_a_person_whose_key_is_no_number_is_parted_from_p8(opened):
    theirs, others = opened(UUIDS[0]), opened(UUIDS[1])
    poker = pokes._Poker()
    poker._gone.add(UUIDS[0])
    for said in poker._take():
        ear._tell(opened.reader, said)
    assert [watch.closed for watch in theirs + others] == [True, False]


def test_a_stream_asks_again_who_it_is_within_a_minute_p8():
    assert streams.LIVES * 1.5 <= 60
