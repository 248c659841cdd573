"""Makes the field of a form from a type hint: what a person types comes out as that type."""

from __future__ import annotations

import datetime as dt
import enum
import inspect
import types
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

from django import forms
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import gettext, gettext_lazy as _

from ..arguments import encode
from ..exceptions import ArgumentsNotSerializable
from .jsonfields import JSONBox, typed
from .presentation import visible

#: Tells "no default" from "the default is None".
NOTHING = inspect.Parameter.empty
#: What a list in JSON may become.
LISTS: tuple[type, ...] = (list, tuple, set, frozenset)

_ANY = _('JSON: 12, "text", [1, 2] or {"name": 1}.')


class ValueField(JSONBox):
    """JSON, with types marked as the ledger marks them; perhaps a list or an object only."""

    widget = forms.Textarea({"rows": 2, "spellcheck": "false"})
    #: An empty list is a value.
    empty_values = (None, "")

    def __init__(self, *, shape: type | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.shape = shape

    def clean(self, value: Any) -> Any:
        """Return the value with its types."""
        found = typed(super().clean(value))
        return found if found is None or self.shape is None else self._shaped(found)

    def _shaped(self, found: Any) -> Any:
        if self.shape is dict:
            if isinstance(found, dict):
                return found
            raise forms.ValidationError(_('It must be an object: {"name": value}.'))
        if not isinstance(found, LISTS):
            raise forms.ValidationError(_("It must be a list: [1, 2]."))
        try:
            return self.shape(found)  # type: ignore[misc]
        except TypeError as error:
            raise forms.ValidationError(str(error)) from error

    def prepare_value(self, value: Any) -> Any:
        """Return the text of the box, empty for nothing."""
        return "" if value is None else super().prepare_value(value)


def _typed(kind: str, **attributes: Any) -> dict[str, Any]:
    return {"type": kind, **attributes}


def _datetime(**options: Any) -> forms.Field:
    widget = forms.DateTimeInput(
        _typed("datetime-local", step=1), format="%Y-%m-%dT%H:%M:%S"
    )
    zone = _("By the clock of %(zone)s.") % {"zone": get_current_timezone_name()}
    return forms.DateTimeField(widget=widget, help_text=zone, **options)


#: What makes the field of a plain type.
PLAIN: dict[Any, Callable[..., forms.Field]] = {
    str: partial(forms.CharField, strip=False),
    int: forms.IntegerField,
    float: forms.FloatField,
    Decimal: forms.DecimalField,
    dt.date: lambda **options: forms.DateField(
        widget=forms.DateInput(_typed("date"), format="%Y-%m-%d"), **options
    ),
    dt.datetime: _datetime,
    dt.time: lambda **options: forms.TimeField(
        widget=forms.TimeInput(_typed("time", step=1), format="%H:%M:%S"), **options
    ),
    dt.timedelta: partial(
        forms.DurationField, help_text=_("Seconds, or days and a time: 1 02:30:00.")
    ),
    UUID: forms.UUIDField,
}


def field_for(hint: Any, default: Any = NOTHING) -> tuple[forms.Field, bool]:
    """Return the field for values of ``hint``, and whether an empty one means None.

    Without a hint the type of the default counts. An unknown hint is asked for as JSON.
    """
    if hint is NOTHING and default is not NOTHING and default is not None:
        hint = type(default)
    kind, optional = _without_none(hint)
    optional = optional or default is None
    field = _field(kind, default, required=not optional and default is NOTHING)
    field.label_suffix = ""
    return field, optional


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Return what is left of ``Optional[X]``, and whether None may be given."""
    hint = getattr(hint, "__supertype__", hint)
    if hint is NOTHING or hint is Any:
        return Any, False
    parts = get_args(hint)
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, get_origin(hint) is Literal and None in parts
    rest = [part for part in parts if part is not types.NoneType]
    if len(rest) == 1:
        return getattr(rest[0], "__supertype__", rest[0]), True
    return hint, len(rest) < len(parts)


def _field(kind: Any, default: Any, *, required: bool) -> forms.Field:
    if kind is bool:
        return _yes_or_no(default, required=required)
    if get_origin(kind) is Literal:
        values = [value for value in get_args(kind) if value is not None]
        return _choice([(str(one), one) for one in values], default, required=required)
    if inspect.isclass(kind) and issubclass(kind, enum.Enum):
        # A task keeps plain values: the function gets the value of the member.
        members = [(one.name, one.value) for one in kind]
        own = default.value if isinstance(default, enum.Enum) else default
        return _choice(members, own, required=required)
    initial = None if default is NOTHING else default
    if kind in PLAIN:
        return PLAIN[kind](required=required, initial=initial)
    return _json(kind, initial, required=required)


def _yes_or_no(default: Any, *, required: bool) -> forms.Field:
    if required or default in (True, False):
        return forms.BooleanField(required=False, initial=default is True)
    return _choice([(gettext("yes"), True), (gettext("no"), False)], None, required=False)


def _choice(
    named: Iterable[tuple[str, Any]], default: Any, *, required: bool
) -> forms.Field:
    """Return a list to choose from: by place, since values may look alike as text."""
    pairs = list(named)
    choices = [(str(place), visible(name)) for place, (name, _value) in enumerate(pairs)]
    chosen = [place for place, (_name, value) in enumerate(pairs) if value == default]
    return forms.TypedChoiceField(
        required=required,
        choices=[*([] if chosen else [("", "---------")]), *choices],
        coerce=lambda place: pairs[int(place)][1],
        empty_value=None,
        initial=str(chosen[0]) if chosen else "",
    )


def _json(kind: Any, initial: Any, *, required: bool) -> forms.Field:
    origin = get_origin(kind) or kind
    shape = origin if origin in (*LISTS, dict) else None
    told = "" if kind is Any else visible(inspect.formatannotation(kind))
    example = {dict: _('A JSON object: {"name": 1}.'), None: _ANY}
    help_text = example.get(shape, _("A JSON list: [1, 2]."))
    return ValueField(
        shape=shape,
        required=required,
        initial=_stored(initial),
        help_text=f"{told} · {help_text}" if told else help_text,
    )


def _stored(value: Any) -> Any:
    try:
        return None if value is None else encode(value)
    except ArgumentsNotSerializable:
        return None
