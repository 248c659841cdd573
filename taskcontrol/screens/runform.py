"""The form that runs a task of a type: a field for each parameter of its function."""

from __future__ import annotations

import datetime as dt
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from celery import Task as CeleryTask
from django import forms
from django.utils.translation import gettext_lazy as _

from .. import actions
from ..conf import known_queues
from ..exceptions import TaskControlError, UnknownQueue
from ..models import TaskType
from ..targets import target_of_type
from .hintfields import NOTHING, PLAIN, ValueField, field_for
from .presentation import visible

#: Before the names of the fields of arguments, which may be called as an option is.
ARGUMENT = "arg_"
#: Parameters that take any number of values.
MANY = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
#: The fields of options of ``enqueue``, and the one of an action's document.
OPTIONS = ("queue", "run_at", "priority")
DOCUMENT, EXTRAS = "document_name", "extra_arguments"


@dataclass(frozen=True)
class Shape:
    """What the tasks of a type take: the parameters of its function, its hints, its model."""

    parameters: Mapping[str, inspect.Parameter]
    hints: Mapping[str, Any]
    #: Whether it takes arguments of any name beside.
    takes_all: bool
    says: str
    #: The model and the action, of a type whose tasks act on documents.
    document: tuple[Any, str] | None = None


def shape_of(method: str) -> Shape:
    """Return what tasks of ``method`` take; raises what ``enqueue`` would raise of it."""
    target = target_of_type(method)
    function = target.run if isinstance(target, CeleryTask) else target
    parameters = _parameters_of(function)
    named = [one for one in parameters or () if one.kind not in MANY]
    says = inspect.getdoc(function) or ""
    return Shape(
        parameters={one.name: one for one in named},
        hints={one.name: _hint_of(function, one) for one in named},
        # Of what is built in C nobody knows what it takes.
        takes_all=parameters is None
        or any(one.kind is one.VAR_KEYWORD for one in parameters),
        says=visible(" ".join(says.split("\n\n")[0].split())),
        document=actions.declared.get(method),
    )


def _parameters_of(function: Any) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def _hint_of(function: Any, parameter: inspect.Parameter) -> Any:
    """Return the hint of one parameter; one that cannot be read stays as it is written."""
    if parameter.annotation is NOTHING:
        return NOTHING
    own = inspect.unwrap(getattr(function, "__func__", function))
    asked = SimpleNamespace(__annotations__={"it": parameter.annotation})
    try:
        return typing.get_type_hints(asked, globalns=getattr(own, "__globals__", {}))["it"]
    except Exception:  # noqa: BLE001 - whatever the project wrote there
        return parameter.annotation


class RunForm(forms.Form):
    """The arguments of one call and a few options; ``enqueue`` itself checks the whole."""

    def __init__(self, one: TaskType, shape: Shape, data: Any = None) -> None:
        super().__init__(data)
        self.method, self.shape = one.method, shape
        self.nullable: set[str] = set()
        if shape.document:
            label = shape.document[0]._meta.verbose_name
            self.fields[DOCUMENT] = forms.CharField(
                label=label, max_length=255, help_text=_("Its primary key.")
            )
        for name, parameter in shape.parameters.items():
            self._add(name, parameter)
        if shape.takes_all:
            self.fields[EXTRAS] = ValueField(
                shape=dict,
                required=False,
                label=_("Other arguments"),
                help_text='{"name": 1}',
            )
        self._add_options(one)

    def _add(self, name: str, parameter: inspect.Parameter) -> None:
        field, nullable = field_for(self.shape.hints[name], parameter.default)
        field.label = name
        field.widget.attrs.setdefault("autocomplete", "off")
        self.fields[f"{ARGUMENT}{name}"] = field
        if nullable:
            self.nullable.add(name)

    def _add_options(self, one: TaskType) -> None:
        usual = ("", one.queue or _("as its type says, else default"))
        names = [(name, name) for name in known_queues() if name != one.queue]
        self.fields["queue"] = forms.ChoiceField(required=False, choices=[usual, *names])
        self.fields["run_at"] = run_at = PLAIN[dt.datetime](required=False)
        run_at.label = _("Not before")
        self.fields["priority"] = forms.IntegerField(
            required=False,
            help_text=_("Higher goes first; empty: that of the type, %(priority)s.")
            % {"priority": one.priority},
        )

    def arguments(self) -> dict[str, Any]:
        """Return the values that the person gave; a default is left to the function."""
        given: dict[str, Any] = {}
        for name, parameter in self.shape.parameters.items():
            key, has_default = f"{ARGUMENT}{name}", parameter.default is not NOTHING
            value = self.cleaned_data[key]
            if has_default and key not in self.changed_data:
                continue
            if value is None and has_default and name not in self.nullable:
                continue
            given[name] = value
        return {**(self.cleaned_data.get(EXTRAS) or {}), **given}

    def call(self) -> dict[str, Any]:
        """Return the call of ``enqueue`` that the form stands for, without its creator."""
        options = {name: self.cleaned_data[name] for name in OPTIONS}
        said = {name: value for name, value in options.items() if value not in (None, "")}
        return {**self._target(), **said, "arguments": self.arguments()}

    def _target(self) -> dict[str, Any]:
        if self.shape.document is None:
            return {"method": self.method}
        model, action = self.shape.document
        name = self.cleaned_data[DOCUMENT]
        return {"document_type": model, "document_name": name, "document_action": action}

    def tell(self, error: TaskControlError) -> None:
        """Show why ``enqueue`` refused, at the option that it names."""
        said = str(error)
        words = said.replace("=", " ").split(" ")
        place = "queue" if isinstance(error, UnknownQueue) else words[0]
        self.add_error(place if place in self.fields else None, visible(said))

    @property
    def argument_fields(self) -> list[Any]:
        """The fields of what the function takes."""
        return [field for field in self if field.name not in OPTIONS]

    @property
    def option_fields(self) -> list[Any]:
        """The fields of how it runs."""
        return [self[name] for name in OPTIONS]
