"""Lists that stay fast over millions of rows: capped counts, static filters, exact search."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import CharField, IntegerField, OuterRef, Q, Subquery, Value
from django.db.models.functions import Right
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from ..conf import known_queues
from ..counting import capped_count
from ..models import TaskAttempt, TaskLog, TaskType
from ..status import Status
from ..text import storable

#: Types whose tasks a search by the beginning of a method finds.
MOST_METHODS = 50
#: An id of more digits would not fit into its column.
MOST_DIGITS = 18

#: Columns that a list does not read: each may hold many kilobytes.
HEAVY = ("arguments", "error_message", "debug_log", "result", "options")
#: Characters of the end of an error that a list reads to find its last line.
ERROR_TAIL = 300


class CappedPaginator(Paginator):
    """Counts no further than ``MOST_COUNTED`` rows."""

    @cached_property
    def count(self) -> int:
        """Return the number of rows, or that there are at least so many."""
        return capped_count(self.object_list)


class TaskList(ChangeList):
    """A page of tasks: light columns, and what stands in other tables by subqueries."""

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Return the tasks of the list without their heavy columns."""
        types = TaskType.objects.filter(method=OuterRef("method")).values("pk")[:1]
        runs = TaskAttempt.objects.filter(task=OuterRef("pk")).order_by("-attempt")
        sees_types = request.user.has_perm("taskcontrol.view_tasktype")
        nothing = Value(None, output_field=IntegerField())
        rows = super().get_queryset(request, *args, **kwargs)
        return rows.defer(*HEAVY).annotate(
            type_id=Subquery(types) if sees_types else nothing,
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


class StatusFilter(StaticFilter):
    """By status, and those whose body is still to go."""

    title = _("status")
    parameter_name = "status__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Return the statuses in the order of a task's life."""
        return [*Status.choices, ("stopping", _("stopping"))]

    def chosen(self, rows: Any, value: str) -> Any:
        """Return the tasks in this status."""
        return rows.stopping() if value == "stopping" else rows.filter(status=value)


class QueueFilter(StaticFilter):
    """By queue."""

    title = _("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Return the queues that the settings know."""
        return [(name, name) for name in known_queues()]


class ErrorFilter(StaticFilter):
    """Those that ended with an error."""

    title = _("error")
    parameter_name = "error"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Return the choices."""
        return [("yes", _("has an error")), ("no", _("has none"))]

    def chosen(self, rows: Any, value: str) -> Any:
        """Return the tasks with or without an error."""
        if value == "yes":
            # Only these can hold one; their index keeps the Finished ones out.
            ended = rows.filter(status__in=(Status.FAILED, Status.CANCELED))
            return ended.exclude(error_message="")
        return rows.filter(error_message="")


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


class EventFilter(GivenFilter):
    """The tasks with one label."""

    title = _("event")
    parameter_name = "event"


def find_tasks(rows: Any, term: str) -> Any:
    """Return those of ``rows`` that a person means by ``term``: a key, or a method's beginning.

    Each kind of key is probed by its own index. One condition over all of them would read
    the whole table.
    """
    term = term.strip()
    if not term:
        return rows
    meant: list[Any] = [key for key in _keys(term) if TaskLog.objects.filter(key).exists()]
    # Types are few, and hold every method with work: the prefix becomes exact values.
    named = TaskType.objects.filter(method__startswith=term).values_list(
        "method", flat=True
    )
    methods = list(named[:MOST_METHODS])
    if methods or not meant:
        meant.append(Q(method__in=methods or [term]))
    return rows.filter(Q.create(meant, connector=Q.OR))


def _keys(term: str) -> list[Q]:
    keys = [
        Q(celery_task_id=term),
        Q(job_id=term),
        Q(batch_id=term),
        Q(document_name=term),
        Q(event=term),
    ]
    if term.isascii() and term.isdigit() and len(term) <= MOST_DIGITS:
        keys.insert(0, Q(pk=int(term)))
    return keys
