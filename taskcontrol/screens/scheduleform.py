"""The form of a schedule: what it does and when, checked as a call in code is checked."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib.admin.widgets import AdminSplitDateTime
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from ..arguments import encode
from ..calls import call_of
from ..conf import known_queues
from ..exceptions import (
    ArgumentsNotSerializable,
    ArgumentsTooLarge,
    InvalidCall,
    InvalidCron,
    MethodNotAllowed,
    MethodNotCallable,
    MethodNotFound,
    TaskControlError,
)
from ..models import Schedule
from ..schedulerows import Wish, refuse_past
from ..schedules import checked_call
from ..signature import OPTIONS
from ..timekeeping import periodic_of
from ..timetables import Cron, Every, Once, Within, beat_model, timetable_from, timetable_of
from .jsonfields import JSONBox, typed
from .presentation import without_secrets

#: Which values of a wish the fields make up; the others have fields of their names.
WHEN = ("cron", "zone", "every", "at")
WHAT = ("method", "arguments", "queue", "more")
#: The field at which an error of a call is told; all others stand above the form.
PLACES: dict[type[TaskControlError], str] = {
    ArgumentsNotSerializable: "arguments",
    ArgumentsTooLarge: "arguments",
    MethodNotAllowed: "method",
    MethodNotCallable: "method",
    MethodNotFound: "method",
}


class ObjectField(JSONBox):
    """A JSON object with names and values, types marked as the ledger marks them."""

    widget = forms.Textarea({"rows": 3, "cols": 60})

    def clean(self, value: Any) -> dict[str, Any]:
        """Return the values with their types."""
        values = typed(super().clean(value) or {})
        if not isinstance(values, dict):
            raise forms.ValidationError(_('It must be an object: {"name": value}.'))
        return values

    def prepare_value(self, value: Any) -> Any:
        """Return the text of the box, empty for nothing."""
        return "" if value in ({}, None) else super().prepare_value(value)


class DateAndTime(AdminSplitDateTime):
    """The two boxes of stock admin, each with its name for those who do not see it."""

    def __init__(self) -> None:
        super().__init__()
        for box, name in zip(self.widgets, (_("Date"), _("Time")), strict=True):
            box.attrs["aria-label"] = name


class ScheduleForm(forms.ModelForm):
    """A schedule as a person edits it; ``wish`` is what came of it."""

    method = forms.CharField(
        required=False,
        max_length=255,
        widget=forms.TextInput({"size": 60}),
        help_text=_("The dotted path of a function: shop.tasks.reconcile"),
    )
    arguments = ObjectField(required=False, help_text='{"limit": 50}')
    queue = forms.ChoiceField(required=False)
    more = ObjectField(
        required=False,
        label=_("Other options"),
        help_text=_('Whatever enqueue() takes: {"timeout": 600, "max_retries": 3}'),
    )
    cron = forms.CharField(
        required=False,
        max_length=600,
        help_text=_("Minute, hour, day, month, day of the week: 0/5 9-17 * * mon-fri"),
    )
    zone = forms.CharField(required=False, help_text=_("In whose clock cron is meant."))
    every = forms.IntegerField(
        required=False, help_text=_("Or: every so many seconds, aligned to the clock.")
    )
    at = forms.SplitDateTimeField(
        required=False, widget=DateAndTime, help_text=_("Or: once, at this time.")
    )
    description = forms.CharField(required=False, widget=forms.Textarea({"rows": 2}))

    class Meta:
        model = Schedule
        fields = ("name", "on_missed", "scheduled_against", "run_as")

    wish: Wish
    #: Whether the person sees what is masked for most.
    sees_secrets = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        queue: Any = self.fields["queue"]
        usual = ("", _("as its type says, else default"))
        queue.choices = [usual, *((name, name) for name in known_queues())]
        self.initial = {**self.initial, **self._stored(), **(kwargs.get("initial") or {})}
        for name in ("arguments", "more"):
            box: Any = self.fields[name]
            if (
                not self.sees_secrets
                and without_secrets(stored := self.initial.get(name)) != stored
            ):
                box.mask()
                box.help_text = _("Secrets are masked for you, so you cannot edit this.")

    def clean(self) -> dict[str, Any]:
        """Make the wish, and tell what is wrong with it at its field."""
        super().clean()
        if not self.errors:
            timetable, call = self._timetable(), self._call()
            self._refuse_taken_name()
            if not self.errors:
                self._make_wish(timetable, call)
        return self.cleaned_data

    @property
    def changed_values(self) -> set[str]:
        """The values of the wish that the person changed; who saves a user has chosen it."""
        names = {
            "timetable" if name in WHEN else "call" if name in WHAT else name
            for name in self.changed_data
        }
        return names | ({"run_as"} if self.cleaned_data.get("run_as") else set())

    def _make_wish(self, timetable: Any, call: dict[str, Any]) -> None:
        same = ("name", "on_missed", "scheduled_against", "run_as", "description")
        values = {name: self.cleaned_data[name] for name in same}
        enabled = self._periodic is None or self._periodic.enabled
        self.wish = Wish(timetable=timetable, call=call, enabled=enabled, **values)

    def _refuse_taken_name(self) -> None:
        others = beat_model("PeriodicTask").objects.filter(name=self.cleaned_data["name"])
        if others.exclude(pk=self.instance.periodic_id).exists():
            self.add_error("name", _("There is a periodic task of this name already."))

    def _timetable(self) -> Any:
        given = self.cleaned_data
        zone = given["zone"] if given["cron"] else None
        try:
            timetable = timetable_from(
                given["cron"] or None, given["every"], given["at"], zone or None
            )
            if {*WHEN} & {*self.changed_data}:
                refuse_past(given["name"], timetable)
        except InvalidCron as error:
            self.add_error("cron", str(error))
        except InvalidCall as error:
            self.add_error(None, str(error))
        else:
            return timetable
        return None

    def _call(self) -> dict[str, Any]:
        given = self.cleaned_data
        call = {**given["more"], "method": given["method"] or None}
        call |= {name: given[name] for name in ("arguments", "queue") if given[name]}
        try:
            return checked_call(call)
        except TaskControlError as error:
            place = next((PLACES[kind] for kind in PLACES if isinstance(error, kind)), None)
            self.add_error(place, str(error))
        return {}

    @cached_property
    def _periodic(self) -> Any:
        return periodic_of(self.instance) if self.instance.pk else None

    def _stored(self) -> dict[str, Any]:
        """Return what the fields beside the columns show of the stored schedule."""
        if self._periodic is None:
            return {"zone": settings.TIME_ZONE, "method": ""}
        return {
            "description": self._periodic.description,
            **_shown_times(self._periodic),
            **_shown_call(self._periodic),
        }


def _shown_times(periodic: Any) -> dict[str, Any]:
    try:
        timetable = timetable_of(periodic)
    except InvalidCall:
        return {}
    match timetable.inner if isinstance(timetable, Within) else timetable:
        case Cron(plain, zone):
            return {"cron": plain, "zone": zone}
        case Every(seconds):
            return {"every": seconds, "zone": settings.TIME_ZONE}
        case Once(at):
            return {"at": at, "zone": settings.TIME_ZONE}
    return {}


def _shown_call(periodic: Any) -> dict[str, Any]:
    try:
        call = call_of(periodic)
    except InvalidCall:
        return {"method": ""}
    method, queue = call.pop("method", ""), call.pop("queue", "")
    arguments = call.pop("arguments", None) or {}
    keywords = {name: call.pop(name) for name in call.keys() - OPTIONS}
    shown = encode({**keywords, **arguments}), encode(call)
    return {"method": method, "queue": queue, "arguments": shown[0], "more": shown[1]}
