"""The field of a form for JSON that a person types: whatever is typed is answered."""

from __future__ import annotations

from typing import Any

from django import forms
from django.forms.fields import InvalidJSONInput
from django.utils.translation import gettext as _

from ..arguments import decode
from ..exceptions import InvalidCall
from ..givenjson import given_json
from .presentation import visible, without_secrets


class JSONBox(forms.JSONField):
    """JSON whose every fault is an error of the form, and stays in the box as it was typed."""

    #: Whether it is only looked at, by somebody who does not see secrets.
    masked = False

    def mask(self) -> None:
        """Keep what is stored, and show it without secrets."""
        self.masked = self.disabled = True

    def prepare_value(self, value: Any) -> Any:
        """Return the text of the box."""
        return super().prepare_value(without_secrets(value) if self.masked else value)

    def to_python(self, value: Any) -> Any:
        """Return what the text says."""
        if type(value) is str and value not in self.empty_values:
            try:
                given_json(value)
            except InvalidCall as error:
                raise forms.ValidationError(visible(error)) from error
        return super().to_python(value)

    def bound_data(self, data: Any, initial: Any) -> Any:
        """Return what the box shows again."""
        try:
            given_json(data or "null")
        except InvalidCall:
            return InvalidJSONInput(data)
        return super().bound_data(data, initial)


def typed(given: Any) -> Any:
    """Return ``given`` with the types that are marked in it."""
    try:
        return decode(given)
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError):
        told = _("A marked value cannot be read.")
        raise forms.ValidationError(told) from None
