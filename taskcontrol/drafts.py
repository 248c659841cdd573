"""One call of ``enqueue``: its options and arguments, checked and ready to become a row."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from functools import cached_property
from typing import Any

from . import context
from .arguments import encode, size_of
from .deduplication import wish_of
from .documents import Document
from .exceptions import ArgumentsTooLarge, InvalidCall
from .exclusion import key_of
from .forms import KEY, LABEL, form_of
from .glance import Glance
from .keys import Key, as_options
from .models import TaskLog
from .options import place
from .signature import OPTIONS, UNSAID
from .status import Status
from .text import clipped


class Draft:
    """One call of ``enqueue``, checked and ready to become a row."""

    def __init__(
        self,
        method: Any,
        options: dict[str, Any],
        keywords: dict[str, Any],
        *,
        said: Collection[str] = OPTIONS,
        glance: Glance | None = None,
    ) -> None:
        """``said``: the options that come from the caller and not from us."""
        self.glance = glance or Glance()
        self.options = options
        self.creator = creator_of(options.get("created_by", UNSAID))
        self.form = form_of(method, options, self.creator, self.glance)
        self.method = self.form.method
        self.wish = wish_of(options)
        self.arguments = self._checked_arguments(keywords, said)
        self._own = self._own_values()
        self.form.values  # noqa: B018 - what is wrong with them is told here

    @cached_property
    def values(self) -> dict[str, Any]:
        """The columns of the row."""
        return {**self.form.values, **self._own}

    @property
    def document(self) -> Document | None:
        """The document that it belongs to."""
        return self.form.document

    @property
    def callbacks(self) -> dict[str, str]:
        """What is called at its end: the paths by option."""
        return self.form.callbacks

    @property
    def is_ready(self) -> bool:
        """Whether the dispatcher may take the row at once."""
        return self.form.values["status"] is Status.PENDING and not self.runs_here

    @property
    def runs_here(self) -> bool:
        """Whether the caller runs it himself, at once, and no dispatcher may see it wait."""
        return self.form.runs_here

    @property
    def exclusive(self) -> Key | None:
        """The key that lets only one such action wait or run for its document, or None."""
        document = self.form.document
        if document is None or not document.action:
            return None
        return key_of(document) if self.form.defaults.get("one_per_document") else None

    @property
    def keys(self) -> list[Key]:
        """The keys that the task holds until it has ended."""
        if self.wish is None and self.document is None:
            return []
        return [key for key in (self.wish and self.wish.key, self.exclusive) if key]

    @property
    def may_be_refused(self) -> bool:
        """Whether what others have stored decides, which must not break a transaction."""
        joins = self._own["batch_id"] is not None
        asks = self.wish is not None or self.document is not None
        return self.form.is_limited or joins or asks

    def row(self, **values: Any) -> TaskLog:
        """Return the unsaved row; ``values`` beat what the call says."""
        return self.form.row({**self._own, **values})

    def _checked_arguments(
        self, keywords: dict[str, Any], said: Collection[str]
    ) -> dict[str, Any]:
        own = self.options.get("arguments")
        if not isinstance(own, Mapping | None):
            raise InvalidCall(f"arguments must be a dict of names and values, not {own!r}.")
        given = {**keywords, **own} if own else keywords
        self.form.check_names(given, keywords, self.options, said)
        arguments: dict[str, Any] = encode(given)
        size = size_of(arguments)
        if size > self.form.most_bytes:
            raise ArgumentsTooLarge(self.method, size, self.form.most_bytes)
        return arguments

    def _own_values(self) -> dict[str, Any]:
        """Return the columns that are of this call alone."""
        around, name = context.current_task(), self.options.get("job_name")
        return {
            **({"job_name": clipped(str(name), 300)} if name else {}),
            "arguments": self.arguments,
            "batch_id": self._said(LABEL, "batch_id") or None,
            "batch_order": self._said(place, "batch_order") or 0,
            "job_id": self._job_id,
            "event": self._said(LABEL, "event") or "",
            "created_by_id": getattr(self.creator, "pk", None),
            "parent_id": around.id if around else None,
            "options": self._policies(),
        }

    def _said(self, check: Any, name: str) -> Any:
        """Return what the call says."""
        value = self.options.get(name)
        return None if value is None else check(name, value)

    @property
    def _job_id(self) -> str | None:
        """What it can be found by: its own label, or else its key."""
        own: str | None = self._said(KEY, "job_id") or None
        return own or (self.wish.key.text if self.wish else None)

    def _policies(self) -> dict[str, Any]:
        """Return what no query filters by."""
        policies = deepcopy(self.form.policies) if self.form.policies else {}
        if is_anonymous(self.creator):
            policies["anonymous"] = True
        return {**as_options(self.keys), **policies}


def is_anonymous(creator: Any) -> bool:
    """Return whether it is a user who is not known, which is not the system."""
    return creator is not None and creator.pk is None


def creator_of(given: Any) -> Any:
    """Return the user as whom a task runs, who may be anonymous; None for the system."""
    user = context.current_user() if given is UNSAID else given
    if user is None:
        return None
    if getattr(user, "is_anonymous", False):
        return context.nobody()
    if getattr(user, "pk", None) is None:
        raise InvalidCall(f"created_by must be a saved user or None, not {user!r}.")
    return user
