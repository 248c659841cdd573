"""Lists that stay fast over millions of rows: capped counts, static filters, exact search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import CharField, IntegerField, OuterRef, Subquery, Value
from django.db.models.functions import Right
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from ..conf import known_queues
from ..counting import capped_count
from ..models import TaskAttempt, TaskType
from ..status import Status
from ..text import storable
from . import searching
from .searching import HELP, Search, newest_of, search_of
from .searchkeys import ERROR_TAIL, Narrowing
from .tabs import PARAMETER, STOPPING, Tab, tabs_of

#: Columns that a list does not read: each may hold many kilobytes.
HEAVY = ("arguments", "error_message", "debug_log", "result", "options")

#: Where a request says which rows it asks for: these, those newer than one, or those that
#: were there at a time.
ASKED, NEWER, UNTIL = "taskcontrol_rows", "taskcontrol_newer", "taskcontrol_until"


class CappedPaginator(Paginator):
    """Counts no further than ``MOST_COUNTED`` rows."""

    @cached_property
    def count(self) -> int:
        """Return the number of rows, or that there are at least so many."""
        known: int | None = getattr(self.object_list, "known_count", None)
        return capped_count(self.object_list) if known is None else known


class TaskPaginator(CappedPaginator):
    """Finds the tasks of a page by their keys, and looks beside those alone.

    What stands in other tables would else be looked up for all rows before the page too.
    """

    def _get_page(self, some: Any, *args: Any, **kwargs: Any) -> Any:
        page: Any = super()
        rows: Any = self.object_list
        return page._get_page(rows.filter(pk__in=keys_of(some)), *args, **kwargs)  # noqa: SLF001 - the hook that Django names for it


def keys_of(some: Any) -> Any:
    """Return the keys of a slice, as a subquery where the database takes such."""
    if connections[some.db].features.allow_sliced_subqueries_with_in:
        return some.values("pk")
    return list(some.values_list("pk", flat=True))


class TaskList(ChangeList):
    """A page of tasks: light columns, and what stands in other tables by subqueries."""

    #: The statuses, each with how many there are; none where only some rows are asked for.
    tabs: Sequence[Tab] = ()
    #: What the search asked for.
    search = Search()
    #: Whether older tasks were left out of a search without an index.
    was_cut = False
    search_keys = HELP

    @property
    def cut_note(self) -> str:
        """What the page says of a search that left older tasks out."""
        told = _(
            "Searched: the newest %(number)s of the tasks that the other conditions leave. "
            "Only an id, a batch, a document, a user, a method and a status are found in all."
        )
        return str(told) % {"number": f"{searching.NEWEST:,}"}

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Return the tasks of the list without their heavy columns."""
        rows = super().get_queryset(request, *args, **kwargs)
        self.search = search_of(request, self.query)
        rows, self.was_cut = newest_of(rows, self.loose())
        return _with_neighbors(rows, request.user)

    def loose(self) -> list[Narrowing]:
        """Return the conditions of the search and of the filters that no index serves."""
        specs = [spec for spec in self.filter_specs if isinstance(spec, LooseFilter)]
        return [*self.search.loose, *filter(None, (spec.loose() for spec in specs))]

    def get_results(self, request: HttpRequest) -> None:
        """Read the page, and how many tasks stand in each status beside it."""
        if is_partial(request):
            self.queryset.known_count = self.list_per_page
        else:
            self.tabs, self.queryset.known_count = tabs_of(self, request)
        super().get_results(request)


def is_partial(request: HttpRequest) -> bool:
    """Return whether only some rows of the list are asked for, and not its page."""
    return any(hasattr(request, name) for name in (ASKED, NEWER, UNTIL))


def asked_rows(request: HttpRequest, rows: Any) -> Any:
    """Return those of ``rows`` that this request asks for, before anything else narrows them."""
    wanted = {ASKED: "pk__in", NEWER: "pk__gt", UNTIL: "created_at__lte"}
    given = {how: getattr(request, name, None) for name, how in wanted.items()}
    return rows.filter(**{how: value for how, value in given.items() if value is not None})


def _with_neighbors(rows: Any, user: Any) -> Any:
    types = TaskType.objects.filter(method=OuterRef("method")).order_by().values("pk")
    runs = TaskAttempt.objects.filter(task=OuterRef("pk")).order_by("-attempt")
    nothing = Value(None, output_field=IntegerField())
    return rows.defer(*HEAVY).annotate(
        type_id=Subquery(types) if user.has_perm("taskcontrol.view_tasktype") else nothing,
        again_at=Subquery(runs.values("ended_at")[:1]),
        error_tail=Right("error_message", ERROR_TAIL, output_field=CharField()),
    )


class StaticFilter(SimpleListFilter):
    """A filter whose choices need no query."""

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Return the rows of the choice; none for what no row can hold."""
        value = self.value()
        if value is None:
            return queryset
        return self.chosen(queryset, value) if storable(value) else queryset.none()

    def chosen(self, rows: Any, value: str) -> Any:
        """Return those of ``rows`` that the choice ``value`` means."""
        return rows.filter(**{str(self.parameter_name): value})


class LooseFilter(StaticFilter):
    """A filter by what no index serves: it is looked for in the newest tasks."""

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Leave the rows as they are: the list itself narrows them, when all else has."""
        value = self.value()
        return queryset if value is None or storable(value) else queryset.none()

    def loose(self) -> Narrowing | None:
        """Return the condition; None when nothing was chosen, or what an index serves."""
        value = self.value()
        if value is None or not storable(value):
            return None
        return lambda rows: self.chosen(rows, value)


class StatusFilter(StaticFilter):
    """By status, and those whose body is still to go."""

    title = _("status")
    parameter_name = PARAMETER

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Return the statuses in the order of a task's life."""
        return [*Status.choices, (STOPPING, _("stopping"))]

    def chosen(self, rows: Any, value: str) -> Any:
        """Return the tasks in this status."""
        return rows.stopping() if value == STOPPING else rows.filter(status=value)


class QueueFilter(LooseFilter):
    """By queue."""

    title = _("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Return the queues that the settings know."""
        return [(name, name) for name in known_queues()]


class ErrorFilter(LooseFilter):
    """Those that ended with an error."""

    title = _("error")
    parameter_name = "error"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Return the choices."""
        return [("yes", _("has an error")), ("no", _("has none"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Leave the tasks that can hold an error, where one is wanted."""
        if self.value() == "yes":
            # Only these can; their index keeps the Finished ones out.
            return queryset.filter(status__in=(Status.FAILED, Status.CANCELED))
        return super().queryset(request, queryset)

    def chosen(self, rows: Any, value: str) -> Any:
        """Return the tasks with or without an error."""
        none = rows.filter(error_message="")
        return rows.exclude(error_message="") if value == "yes" else none


class RetryFilter(StaticFilter):
    """Those that failed and will run again by themselves."""

    title = _("automatic retry")
    parameter_name = "retry"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Return the only choice."""
        return [("due", _("a retry is due"))]

    def chosen(self, rows: Any, value: str) -> Any:
        """Return the tasks with a retry ahead."""
        return rows.filter(retry_at__isnull=False)


class GivenFilter(StaticFilter):
    """A filter that a link sets, shown only then so that it can be taken off again."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Return what was given as the only choice."""
        value = self.value()
        return [] if value is None else [(value, value)]


class BatchFilter(GivenFilter):
    """The members of one batch."""

    title = _("batch")
    parameter_name = "batch_id"


class MethodFilter(GivenFilter):
    """The tasks of one type."""

    title = _("task type")
    parameter_name = "method"


class CreatorFilter(GivenFilter):
    """The tasks of one user."""

    title = _("created by")
    parameter_name = "created_by"

    def chosen(self, rows: Any, value: str) -> Any:
        """Return the tasks of the user with this key; none for what can be no key."""
        keys = rows.model._meta.get_field("created_by").target_field
        try:
            key = keys.to_python(value)
        except ValidationError:
            return rows.none()
        fits = not isinstance(key, int) or key.bit_length() < 64
        return rows.filter(created_by=key) if fits else rows.none()


class EventFilter(GivenFilter):
    """The tasks with one label."""

    title = _("event")
    parameter_name = "event"
