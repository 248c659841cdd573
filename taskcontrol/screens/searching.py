"""The search box of the tasks: ``key:value`` beside free text, with a sentence for each mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.http import HttpRequest
from django.utils.translation import gettext as _, gettext_lazy

from ..permissions import SENSITIVE, VIEW
from ..text import storable
from .searchkeys import (
    KEYS,
    Asker,
    Meaning,
    Mistake,
    Narrowing,
    any_of,
    of_argument,
    of_text,
)

#: Rows that a condition without an index is looked for in, the newest.
NEWEST = 100_000

#: A longer search, or one with more conditions, is more than a database takes.
MOST_CHARACTERS, MOST_TERMS = 2_000, 30

#: What stands between spaces; quotes keep a value with spaces together.
_TOKEN = re.compile(r'(?:[^\s"]|"[^"]*")+')
_PAIR = re.compile(r'([A-Za-z_][\w-]*(?:\.[^:"<>]+)?)(:[<>]|[:<>])(.*)', re.DOTALL)
#: Keys that are compared, not matched.
_COMPARED = {"age"}

HELP = (
    ("method:shop.tasks.charge", gettext_lazy("a method, its beginning or its last part")),
    ("status:failed", gettext_lazy("a status, or stopping")),
    ("queue:long", gettext_lazy("a queue")),
    ("batch:…", gettext_lazy("the id of a batch")),
    ("doc:shop.Invoice/17", gettext_lazy("a document; also doc:17")),
    ("user:ann", gettext_lazy("who created it")),
    ("worker:celery@host", gettext_lazy("the worker that ran it")),
    ("args.customer.id:12", gettext_lazy("an argument, also inside of another")),
    ('error:"no such file"', gettext_lazy("a part of the error")),
    ("age>1h", gettext_lazy("created longer ago; age<30m; s, m, h, d, w")),
    ("id: job: event: schedule:", gettext_lazy("these keys, whole")),
)


class Search(NamedTuple):
    """What a text in the search box asks for."""

    #: Served by an index, each.
    exact: tuple[Narrowing, ...] = ()
    #: Looked for row by row.
    loose: tuple[Narrowing, ...] = ()
    #: What could not be understood: a search with mistakes finds nothing.
    mistakes: tuple[str, ...] = ()
    #: What the person should know of what was found.
    notes: tuple[str, ...] = ()

    def exactly(self, rows: Any) -> Any:
        """Return those of ``rows`` that the conditions with an index leave."""
        if self.mistakes:
            return rows.none()
        for narrow in self.exact:
            rows = narrow(rows)
        return rows


def search_of(request: HttpRequest, text: str) -> Search:
    """Return what ``text`` means to the person, asked once in a request."""
    known: dict[str, Search] = request.__dict__.setdefault("taskcontrol_searches", {})
    if text not in known:
        user: Any = request.user
        asker = Asker(user, user.has_perm(VIEW), user.has_perm(SENSITIVE))
        known[text] = understand(text, asker)
    return known[text]


def understand(text: str, asker: Asker) -> Search:
    """Return what ``text`` asks for; mistakes are told, never raised."""
    if not storable(text) or text.count('"') % 2:
        return Search(mistakes=(_('A quote (") is not closed.'),))
    if refused := too_much(text):
        return Search(mistakes=(refused,))
    meanings: list[Meaning] = []
    mistakes: list[str] = []
    words: list[str] = []
    for key, sign, value in _parts(text):
        if not key:
            words.append(value)
            continue
        try:
            meanings.append(_meaning(key, sign, value, asker))
        except Mistake as mistake:
            mistakes.append(str(mistake))
    if words and not mistakes:
        meanings.append(of_text(" ".join(words), asker))
    within = [any_of(one.within) for one in meanings if one.within is not None]
    return Search(
        tuple(one.narrow for one in [*within, *meanings] if one.indexed),
        tuple(one.narrow for one in meanings if not one.indexed),
        tuple(mistakes),
        tuple(one.note for one in meanings if one.note),
    )


def too_much(text: str) -> str:
    """Return the sentence that refuses a search which is too long; empty for any other."""
    if len(text) > MOST_CHARACTERS:
        return _("A search takes %(most)s characters.") % {"most": f"{MOST_CHARACTERS:,}"}
    if len(text.split()) > MOST_TERMS:
        return _("A search takes %(most)s words and conditions.") % {"most": MOST_TERMS}
    return ""


def _parts(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield key, sign and value of each token; of free text the value alone."""
    for token in _TOKEN.findall(text):
        found = None if token.startswith('"') else _PAIR.fullmatch(token)
        if found and (":" in found[2] or found[1].lower() in _COMPARED):
            yield found[1], found[2][-1], found[3].replace('"', "")
        else:
            yield "", "", token.replace('"', "")


def _meaning(key: str, sign: str, value: str, asker: Asker) -> Meaning:
    name, _dot, path = key.partition(".")
    name = name.lower()
    if name not in KEYS or (bool(path) != (name == "args")):
        told = _(
            "There is no search key %(key)s. There are: %(known)s. A text with a colon "
            'stands in quotes: "%(text)s".'
        )
        known = ", ".join("args.name" if one == "args" else one for one in KEYS)
        raise Mistake(told % {"key": key, "known": known, "text": f"{key}{sign}{value}"})
    if not value:
        raise Mistake(_("%(key)s: needs a value behind the colon.") % {"key": key})
    if (sign != ":") != (name in _COMPARED):
        told = _("%(key)s is compared: age>1h or age<30m.")
        if name not in _COMPARED:
            told = _("%(key)s takes a value behind a colon: %(key)s:value.")
        raise Mistake(told % {"key": key})
    if name == "args":
        return of_argument(path.split("."), value, asker)
    return KEYS[name](f"{sign}{value}" if name in _COMPARED else value, asker)


def newest_of(rows: Any, narrowings: list[Narrowing]) -> tuple[Any, bool]:
    """Return those of ``rows`` that conditions without an index leave, and whether it was cut.

    They are looked for in the newest ``NEWEST`` of ``rows``, however many there are.
    """
    if not narrowings:
        return rows, False
    keys = rows.order_by("-pk").values_list("pk", flat=True)
    oldest = next(iter(keys[NEWEST - 1 : NEWEST]), None)
    if oldest is not None:
        rows = rows.filter(pk__gte=oldest)
    for narrow in narrowings:
        rows = narrow(rows)
    return rows, oldest is not None
