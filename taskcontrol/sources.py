"""What a loop over chunks goes through, and how it finds its place again after a crash."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from django.db.models import QuerySet
from django.db.models.query import ModelIterable

from .arguments import decode, encode
from .exceptions import InvalidCall

T = TypeVar("T")
#: Some items, and the place behind them as JSON.
Page = tuple[list[T], Any]


class Source(Protocol[T]):
    """Items that can be gone through from a place on."""

    def pages(self, size: int, done: int, place: Any) -> Iterator[Page[T]]:
        """Yield the items behind ``done`` and ``place``, ``size`` at a time."""

    def total(self, done: int, place: Any, before: int | None) -> int | None:
        """Return how many items there are in all; None if only the end will tell."""


def source_of(items: Iterable[T]) -> Source[T]:
    """Return the way through ``items``; raise InvalidCall where there is no sure one."""
    if isinstance(items, QuerySet):
        return Rows(_whole(items))
    if isinstance(items, str | bytes | Mapping | AbstractSet):
        raise InvalidCall(
            f"iter_chunks cannot find its place again in a {type(items).__name__}: pass a "
            "list, as of sorted(…), a range, a QuerySet, or what yields the same items in "
            "the same order in each attempt."
        )
    if isinstance(items, Sequence):
        return Listed(items)
    if not hasattr(items, "__iter__"):
        raise InvalidCall(f"iter_chunks goes through items, and {items!r:.200} has none.")
    return Streamed(items)


class Rows:
    """The rows of a QuerySet, by key: those that its filters drop meanwhile shift nothing."""

    def __init__(self, rows: QuerySet[Any]) -> None:
        self._rows = rows.order_by("pk")

    def pages(self, size: int, done: int, place: Any) -> Iterator[Page[Any]]:
        """Read each page by its own query, so that nothing stays open between two."""
        while page := list(self._behind(place)[:size]):
            place = encode(page[-1].pk, "place")
            yield page, place

    def total(self, done: int, place: Any, before: int | None) -> int:
        """Count what is left."""
        return done + self._behind(place).count()

    def _behind(self, place: Any) -> QuerySet[Any]:
        return self._rows if place is None else self._rows.filter(pk__gt=decode(place))


class Listed(Generic[T]):
    """A list, a tuple, a range: the place is a number."""

    def __init__(self, items: Sequence[T]) -> None:
        self._items = items

    def pages(self, size: int, done: int, place: Any) -> Iterator[Page[T]]:
        """Cut the pages out."""
        for start in range(done, len(self._items), size):
            yield list(self._items[start : start + size]), None

    def total(self, done: int, place: Any, before: int | None) -> int:
        """Return the length, which must be that of the earlier attempts."""
        now = len(self._items)
        if before is not None and before != now:
            raise InvalidCall(
                f"iter_chunks was given {before:,} items in an earlier attempt of this task "
                f"and {now:,} now, so nothing tells which of them are done. Pass the same "
                "items in each attempt: as an argument of the task, or as a QuerySet, which "
                "is read by key."
            )
        return now


class Streamed(Generic[T]):
    """A generator, a file: what is done is read again and passed over."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items

    def pages(self, size: int, done: int, place: Any) -> Iterator[Page[T]]:
        """Take pages off the stream."""
        stream = iter(self._items)
        for _ in islice(stream, done):
            pass
        while page := list(islice(stream, size)):
            yield page, None

    def total(self, done: int, place: Any, before: int | None) -> int | None:
        """Only the end will tell."""
        return None


def _whole(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Refuse what cannot be read by key."""
    if rows.query.is_sliced or rows.query.combinator:
        raise InvalidCall(
            "iter_chunks reads a QuerySet by key, which one that is cut ([:n]) or combined "
            "(union) does not allow: filter it, or pass list(…) if it is the same in each "
            "attempt."
        )
    if rows._iterable_class is not ModelIterable:  # noqa: SLF001 - there is no public word
        raise InvalidCall(
            "iter_chunks reads a QuerySet by key and needs whole rows: leave values() and "
            "values_list() out; only() loads few columns."
        )
    return rows
