"""The screens of taskcontrol in admin: the tasks here, the other nouns next door."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _

from . import permissions
from .audit import given_reason
from .dialect import DatabaseNow
from .live.addresses import addresses
from .models import (
    DispatcherState,
    Incident,
    QueueState,
    Schedule,
    TaskBatch,
    TaskEvent,
    TaskLog,
    TaskType,
    Worker,
)
from .pruning import delete_tasks
from .screens.acts import ActsOnTasks
from .screens.addresses import admin_url
from .screens.audit import TaskEventAdmin
from .screens.base import ReadOnlyScreen
from .screens.batches import TaskBatchAdmin
from .screens.copyform import PAGE as EDIT, edit_and_retry
from .screens.dispatcher import DispatcherStateAdmin
from .screens.endings import EndedFilter
from .screens.freshrows import fresh_rows
from .screens.incidents import IncidentAdmin
from .screens.presentation import (
    ago,
    brief,
    person,
    ran,
    retries,
    status_badge,
    visible,
    waited,
)
from .screens.queues import QueueStateAdmin
from .screens.schedules import ScheduleAdmin
from .screens.searching import search_of
from .screens.story import progress_of, story_of
from .screens.tasklists import (
    BatchFilter,
    CreatorFilter,
    ErrorFilter,
    EventFilter,
    MethodFilter,
    QueueFilter,
    RetryFilter,
    StatusFilter,
    TaskList,
    TaskPaginator,
    asked_rows,
)
from .screens.tasktypes import TaskTypeAdmin
from .screens.taskverbs import BUTTONS, DELETE, Verb
from .screens.workers import WorkerAdmin
from .status import Status
from .text import last_line

#: What an address may narrow the list by. Anything more would let a person ask, lookup by
#: lookup, for what is masked: ``?arguments__password__startswith=a``.
ASKABLE = frozenset(
    {
        "batch_id",
        "celery_task_id",
        "document_name",
        "document_type",
        "ended",
        "error",
        "event",
        "id",
        "job_id",
        "method",
        "queue",
        "retry",
        "schedule",
        "status",
    }
)


@admin.register(TaskLog)
class TaskLogAdmin(ActsOnTasks, ReadOnlyScreen):
    """Tasks: everybody of the staff sees the own ones, all with the permission."""

    paginator = TaskPaginator
    list_display = ("label", "state", "kind", "created", "run_time", "attempts_made")
    list_filter = (
        StatusFilter,
        QueueFilter,
        ErrorFilter,
        RetryFilter,
        BatchFilter,
        MethodFilter,
        EventFilter,
        CreatorFilter,
        EndedFilter,
    )
    list_select_related = ("created_by",)
    sortable_by = ()
    search_fields = ("id",)  # shows the box; ``get_search_results`` does the search
    search_help_text = _(
        "An id (of the task, its batch, its job, its Celery message), a document, an event, "
        "the beginning of a method, a part of a label; or key:value."
    )
    fieldsets = (
        (
            _("What was asked"),
            {
                "classes": ("collapse",),
                "fields": (
                    ("id", "job_id", "event", "schedule"),
                    ("job_name", "method", "call_whitelisted_function"),
                    ("queue", "priority", "at_front", "timeout"),
                    ("max_retries", "retry_delay", "run_at", "expires_at"),
                    ("batch_id", "batch_order"),
                    ("document_type", "document_name", "document_action"),
                    ("created_at", "created_by"),
                ),
            },
        ),
        (
            _("What became of it"),
            {
                "classes": ("collapse",),
                "fields": (
                    ("status", "attempt", "retry_count", "lost_count"),
                    ("queued_at", "started_at", "ended_at", "retry_at"),
                    ("time_taken", "peak_memory_usage"),
                    ("worker", "pid", "celery_task_id"),
                    ("cancel_requested_at", "canceled_by", "ended_reason"),
                ),
            },
        ),
        (
            _("Inside"),
            {
                "classes": ("collapse",),
                "fields": (
                    ("rev", "occupies", "heard", "sent_count", "sent_at"),
                    ("position", "lane", "ready_lane"),
                    ("progress",),
                ),
            },
        ),
    )

    # Who sees what

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the tasks that the person may see, each with the time of reading."""
        rows = permissions.visible_to(request.user).annotate(read_at=DatabaseNow())
        return asked_rows(request, rows)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Everybody of the staff may look at the own tasks."""
        return True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the person may see this task; some list everybody has."""
        return obj is None or permissions.may(request.user, permissions.VIEW, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the person may delete this task, which must have ended.

        False for no task at all, which takes stock admin's bulk action away: it would
        load every selected row. Ours is ``erase_tasks``.
        """
        if obj is None or not request.user.has_perm(DELETE):
            return False
        return bool(obj.ended and not obj.occupies)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete the task with its attempts and events, if it has not begun again."""
        if not delete_tasks([obj.pk]):
            raise PermissionDenied(f"Task {obj.pk} has not ended.")

    def lookup_allowed(
        self, lookup: str, value: Any, request: HttpRequest | None = None
    ) -> bool:
        """Allow to ask for whole values of plain columns."""
        # A key that is given to a plain lookup may be too large for its column.
        known = lookup == CreatorFilter.parameter_name
        known = known or lookup.removesuffix("__exact") in ASKABLE
        return known and "\0" not in str(value)

    # The list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return our list."""
        return TaskList

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        """Return the tasks that the search means, each once."""
        return search_of(request, search_term).exactly(queryset), False

    @admin.display(description=_("task"))
    def label(self, task: Any) -> SafeString | str:
        """Show the label, and under it why the task failed."""
        why = last_line(task.error_tail) if task.status == Status.FAILED else ""
        under = format_html('<span class="tc-why">{}</span>', visible(why)) if why else ""
        # The page finds the row by it when there is news.
        return format_html(
            '<span data-tc-task="{}" data-tc-rev="{}">{}</span>{}',
            task.pk,
            task.rev,
            visible(task.job_name),
            under,
        )

    @admin.display(description=_("status"))
    def state(self, task: Any) -> SafeString:
        """Show the status, and how far a running task is or when a failed one runs again."""
        shown = status_badge(task.status, occupies=task.occupies)
        said = progress_of(task)
        if said and said["value"] is not None:
            return format_html(
                '{} <progress class="tc-progress" value="{}" max="{}">{}</progress>',
                shown,
                said["value"],
                said["max"],
                said["numbers"],
            )
        if task.retry_at:
            retry = ago(task.retry_at, task.read_at)
            return format_html(
                '{}<span class="tc-quiet">{} {}</span>', shown, _("retry"), retry
            )
        return shown

    @admin.display(description=_("type, queue"))
    def kind(self, task: Any) -> SafeString | str:
        """Show the last two parts of the method, linked to its type, and the queue."""
        return format_html(
            '{}<span class="tc-quiet">{}</span>', _kind(task), visible(task.queue)
        )

    @admin.display(description=_("created"))
    def created(self, task: Any) -> SafeString:
        """Show when the task was made and by whom."""
        return format_html(
            '{}<span class="tc-quiet">{}</span>',
            ago(task.created_at, task.read_at),
            person(task.creator, task.created_by_id),
        )

    @admin.display(description=_("run, wait"))
    def run_time(self, task: Any) -> SafeString:
        """Show how long the present attempt ran, and after which wait."""
        wait = waited(task, task.read_at, task.again_at)
        words = _("after %(time)s") if task.started_at else _("waiting %(time)s")
        told = "" if wait is None else words % {"time": brief(wait)}
        run = ran(task, task.read_at)
        return format_html('{}<span class="tc-quiet">{}</span>', run, told)

    @admin.display(description=_("attempt"))
    def attempts_made(self, task: Any) -> SafeString:
        """Show the attempt and the retries."""
        return format_html(
            '{}<span class="tc-quiet">{}</span>', task.attempt, retries(task)
        )

    # One task

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of the buttons."""
        buttons = [self.button(verb.name, partial(self._act, verb)) for verb in BUTTONS]
        rows = path(
            "rows", self.admin_site.admin_view(self.rows_view), name="taskcontrol_rows"
        )
        edit = path(
            f"<path:object_id>/{EDIT}/",
            self.admin_site.admin_view(self.edit_and_retry_view),
            name=f"taskcontrol_tasklog_{EDIT}",
        )
        return [rows, edit, *buttons, *addresses("taskcontrol_"), *super().get_urls()]

    def edit_and_retry_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Retry an ended task with edited arguments, as a copy."""
        task = self.get_object(request, unquote(object_id))
        return edit_and_retry(self, request, task)

    def rows_view(self, request: HttpRequest) -> JsonResponse:
        """Answer rows of the list as they are now, and how many newer ones there are.

        ``?ids=1,2`` names rows that the page shows; ``?newer=12`` the newest of them, beside
        what the page filters by.
        """
        return JsonResponse(fresh_rows(self, request))

    @staticmethod
    def _act(verb: Verb, request: HttpRequest, task: Any) -> str:
        reason = given_reason(request.POST.get("reason")) if verb.takes_reason else ""
        return verb.act(task, request.user, reason)

    def page_of(self, row: Any, request: HttpRequest) -> dict[str, Any]:
        """Show one task with its story."""
        story = story_of(row, request.user)
        return {"title": visible(row.job_name), "subtitle": None, "story": story}


def _kind(task: Any) -> SafeString:
    parts = [[visible(part)] for part in task.method.split(".")[-2:]]
    # A long name breaks behind the dot.
    short = format_html_join(mark_safe(".<wbr>"), "{}", parts)
    whole = visible(task.method)
    if task.type_id is None:
        return format_html('<span title="{}">{}</span>', whole, short)
    url = admin_url("taskcontrol_tasktype_change", task.type_id)
    return format_html('<a href="{}" title="{}">{}</a>', url, whole, short)


admin.site.register(TaskType, TaskTypeAdmin)
admin.site.register(TaskBatch, TaskBatchAdmin)
admin.site.register(Schedule, ScheduleAdmin)
admin.site.register(Worker, WorkerAdmin)
admin.site.register(QueueState, QueueStateAdmin)
admin.site.register(DispatcherState, DispatcherStateAdmin)
admin.site.register(TaskEvent, TaskEventAdmin)
admin.site.register(Incident, IncidentAdmin)
