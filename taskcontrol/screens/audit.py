"""The audit: what people and the system did to tasks, newest first, for reading only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, Q, Subquery
from django.http import HttpRequest
from django.urls import NoReverseMatch
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from ..dialect import DatabaseNow
from ..models import TaskEvent
from ..permissions import visible_to
from ..status import Status
from ..text import storable
from . import searching
from .addresses import admin_url
from .base import ReadOnlyScreen
from .machinery import acts_on_machinery
from .presentation import EMPTY, ago, badge, link, person, status_badge, visible
from .searchkeys import MOST_DIGITS, Narrowing
from .tasklists import StaticFilter

PEOPLE, SYSTEM = "people", "system"


class AuditFilter(StaticFilter):
    """A filter that the list applies itself: one by an index, further ones among those."""

    #: Whether an index finds what was chosen in all events.
    indexed = True

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Leave the rows as they are; none for what no row can hold."""
        value = self.value()
        fits = value is None or (storable(value) and self.fits(value))
        return queryset if fits else queryset.none()

    def fits(self, value: str) -> bool:
        """Return whether a row can hold ``value``."""
        return True

    def chosen_condition(self) -> Q | None:
        """Return what is true of the events of the choice; None without one."""
        value = self.value()
        if value is None or not storable(value) or not self.fits(value):
            return None
        return self.condition(value)

    def condition(self, value: str) -> Q:
        """Return what is true of the events of the choice ``value``."""
        return Q(**{str(self.parameter_name): value})


class TaskFilter(AuditFilter):
    """The events of one task, which a link chooses."""

    title = gettext_lazy("task")
    parameter_name = "task"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Return what was given as the only choice, so that it can be taken off."""
        return _given(self, _("task %(id)s"))

    def fits(self, value: str) -> bool:
        """Return whether this can be the key of a task."""
        return is_key(value)


class ActorFilter(AuditFilter):
    """What people did, what the system did, or what one person did, by a link."""

    title = gettext_lazy("whom")
    parameter_name = "actor"

    @property
    def indexed(self) -> bool:  # type: ignore[override]
        """One person's acts have an index; those of all people have none."""
        return self.value() not in {PEOPLE, SYSTEM}

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Return people, the system, and who was given."""
        choices = [(PEOPLE, _("people")), (SYSTEM, _("the system"))]
        value = self.value()
        if value is None or value in {PEOPLE, SYSTEM}:
            return choices
        return [*choices, (value, _name_of(value))]

    def fits(self, value: str) -> bool:
        """Return whether this is a choice, or can be the key of a user."""
        return value in {PEOPLE, SYSTEM} or _user_key(value) is not None

    def condition(self, value: str) -> Q:
        """Return what is true of the acts of the chosen."""
        if value in {PEOPLE, SYSTEM}:
            return Q(actor__isnull=value == SYSTEM)
        return Q(actor=_user_key(value))


class KindFilter(AuditFilter):
    """By what happened."""

    title = gettext_lazy("what happened")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Return the kinds of events."""
        return TaskEvent.Kind.choices


def _given(spec: Any, text: str) -> list[tuple[str, str]]:
    value = spec.value()
    return [] if value is None else [(value, visible(text % {"id": value}))]


def is_key(text: str) -> bool:
    """Return whether ``text`` can be the key of a task."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def _user_key(text: str) -> Any:
    """Return ``text`` as the key of a user; None when it cannot be one."""
    try:
        return get_user_model()._meta.pk.clean(text, None)
    except (ValidationError, TypeError, ValueError):
        return None


def _name_of(text: str) -> str:
    key = _user_key(text)
    found = get_user_model()._default_manager.filter(pk=key).first()
    return visible(person(found, text))


class AuditList(ChangeList):
    """A page of events, narrowed by one index and then within the newest of what is left."""

    was_cut = False

    @property
    def cut_note(self) -> str:
        """What the page says when older events were left out."""
        told = _("Searched: the newest %(number)s of the events that one condition leaves.")
        return str(told) % {"number": f"{searching.NEWEST:,}"}

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Return the events of the choices, each with the label of its task."""
        rows = super().get_queryset(request, *args, **kwargs)
        rows, conditions = self._by_index(rows)
        loose = [_narrowing(condition) for condition in conditions]
        rows, self.was_cut = searching.newest_of(rows, loose)
        labels = visible_to(request.user).filter(pk=OuterRef("task_id"))
        return rows.annotate(label=Subquery(labels.values("job_name")[:1]))

    def get_results(self, request: HttpRequest) -> None:
        """Read the page, and note whether it may lead to the people's accounts."""
        super().get_results(request)
        may = may_see_people(request.user)
        events: list[Any] = list(self.result_list)
        for event in events:
            event.links_people = may
        self.result_list = events

    def _by_index(self, rows: Any) -> tuple[Any, list[Q]]:
        """Apply the first condition that an index serves; return the others too."""
        others, narrowed = [], bool(self.query)
        for spec in self.filter_specs:
            if not isinstance(spec, AuditFilter):
                continue
            condition = spec.chosen_condition()
            if condition is None:
                continue
            if spec.indexed and not narrowed:
                rows, narrowed = rows.filter(condition), True
            else:
                others.append(condition)
        return rows, others


def _narrowing(condition: Q) -> Narrowing:
    return lambda rows: rows.filter(condition)


class TaskEventAdmin(ReadOnlyScreen):
    """What happened to tasks, for those who may see everybody's acts."""

    list_display = ("when", "what", "whose", "who", "moved", "why")
    list_display_links = None
    # In the order in which they are looked up: the narrowest first.
    list_filter = (TaskFilter, ActorFilter, KindFilter)
    list_select_related = ("actor",)
    ordering = ("-id",)
    sortable_by = ()
    search_fields = ("task",)  # shows the box; ``get_search_results`` does the search
    search_help_text = gettext_lazy("The id of a task, or the name of a person.")
    fields = ("at", "kind", "task_id", "actor", ("old", "new"), "attempt", "detail")

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the events, each with the time of reading."""
        return super().get_queryset(request).annotate(read_at=DatabaseNow())

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return our list."""
        return AuditList

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        """Return the events of a task or of a person, each by its index."""
        text = search_term.strip()
        if not text:
            return queryset, False
        if not storable(text):
            return queryset.none(), False
        if is_key(text):
            return queryset.filter(task=int(text)), False
        users = get_user_model()
        named = {users.USERNAME_FIELD: text}
        keys = list(users._default_manager.filter(**named).values_list("pk", flat=True))
        return queryset.filter(actor__in=keys), False

    def lookup_allowed(
        self, lookup: str, value: Any, request: HttpRequest | None = None
    ) -> bool:
        """Allow what the filters ask for and nothing else."""
        return lookup in {"task", "actor", "kind"} and "\0" not in str(value)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show the events, and below the whole list what was done to everything else."""
        told: dict[str, Any] = {"title": _("Audit")}
        if not set(request.GET) - {"p"} and self.has_view_permission(request):
            told["machinery"] = acts_on_machinery()
        return super().changelist_view(request, {**told, **(extra_context or {})})

    def get_urls(self) -> Any:
        """Leave out the pages of one event: it is told in its task's timeline."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_changelist"
        return [url for url in super().get_urls() if url.name == name]

    @admin.display(description=gettext_lazy("when"))
    def when(self, event: Any) -> SafeString | str:
        """Show how long ago it was."""
        return ago(event.at, event.read_at)

    @admin.display(description=gettext_lazy("what"))
    def what(self, event: Any) -> SafeString:
        """Show what happened."""
        return badge(visible(event.get_kind_display()), (event.new or "event").lower())

    @admin.display(description=gettext_lazy("task"))
    def whose(self, event: Any) -> SafeString:
        """Show the task as a link for those who may see it, and below a link to its events."""
        shown: Any = ""
        if event.label is not None:
            url = admin_url("taskcontrol_tasklog_change", event.task_id)
            shown = link(url, event.label)
        told = _("task %(id)s, attempt %(attempt)s") if event.attempt else _("task %(id)s")
        numbers = told % {"id": event.task_id, "attempt": event.attempt}
        text = '{}<a class="tc-quiet" href="?task={}">{}</a>'
        return format_html(text, shown, event.task_id, numbers)

    @admin.display(description=gettext_lazy("by"))
    def who(self, event: Any) -> SafeString | str:
        """Show who did it, as a link to all that this one did, and the page of a person."""
        name = person(event.actor, event.actor_id)
        key = SYSTEM if event.actor_id is None else event.actor_id
        shown = link(f"?actor={key}", name)
        if event.actor is None or not event.links_people:
            return shown
        url = person_url(event.actor_id)
        text = '{}<a class="tc-quiet" href="{}">{}</a>' if url else "{}"
        return format_html(text, shown, url, _("account"))

    @admin.display(description=gettext_lazy("from, to"))
    def moved(self, event: Any) -> SafeString | str:
        """Show between which statuses it moved the task."""
        if not event.new or event.old == event.new:
            return EMPTY
        shown = [_status(one) for one in (event.old, event.new) if one]
        return format_html("{} → {}", *shown) if len(shown) == 2 else shown[0]

    @admin.display(description=gettext_lazy("why"))
    def why(self, event: Any) -> str:
        """Show the reason that was given, or what the system found."""
        return visible(event.detail) or EMPTY


def _status(text: str) -> SafeString | str:
    return status_badge(text) if text in Status.values else visible(text)


def may_see_people(user: Any) -> bool:
    """Return whether ``user`` may look at the accounts of people."""
    options = get_user_model()._meta
    return bool(user.has_perm(f"{options.app_label}.view_{options.model_name}"))


def person_url(user_id: Any) -> str:
    """Return the page of a user in admin; empty where there is none."""
    options = get_user_model()._meta
    try:
        return admin_url(f"{options.app_label}_{options.model_name}_change", user_id)
    except NoReverseMatch:
        return ""
