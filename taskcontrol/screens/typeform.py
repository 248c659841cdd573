"""The form of a task type: what a person sets is checked as a declaration in code is."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from ..conf import known_queues
from ..exceptions import InvalidCall
from ..options import DECLARABLE
from .jsonfields import JSONBox


class PolicyField(JSONBox):
    """JSON that shows nothing for nothing."""

    def prepare_value(self, value: Any) -> Any:
        """Return the text of the box."""
        return "" if value is None else super().prepare_value(value)


class TaskTypeForm(forms.ModelForm):
    """A type as a person edits it; what code could not declare is refused here too."""

    queue = forms.ChoiceField(required=False)
    backoff = PolicyField(
        required=False,
        widget=forms.Textarea({"rows": 2}),
        help_text=_('true, or for instance {"factor": 2, "max": 3600, "jitter": true}.'),
    )
    retry_on = PolicyField(
        required=False,
        widget=forms.Textarea({"rows": 2}),
        help_text=_('Only these are retried: ["ConnectionError", "shop.errors.ApiError"].'),
    )
    discard_on = PolicyField(
        required=False,
        widget=forms.Textarea({"rows": 2}),
        help_text=_("These are never retried."),
    )
    retention_days = PolicyField(
        required=False,
        widget=forms.Textarea({"rows": 2}),
        help_text=_(
            'Days for which ended tasks are kept: {"Finished": 7}; null means for ever, and '
            "what is left out is as the site says."
        ),
    )
    atomic = forms.TypedChoiceField(
        required=False,
        choices=[("", _("as the site says")), (True, _("yes")), (False, _("no"))],
        coerce=lambda value: value == "True",
        empty_value=None,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        queue: Any = self.fields["queue"]
        names = dict.fromkeys([*known_queues(), *filter(None, [self.instance.queue])])
        usual = ("", _("as the call says, else default"))
        queue.choices = [usual, *((name, name) for name in names)]

    def clean(self) -> dict[str, Any]:
        """Check each changed value as a declaration in code is checked."""
        cleaned = super().clean() or self.cleaned_data
        for name in set(self.changed_data) & DECLARABLE.keys() & cleaned.keys():
            if cleaned[name] is None or cleaned[name] == "":
                continue
            try:
                cleaned[name] = DECLARABLE[name](name, cleaned[name])
            except InvalidCall as error:
                self.add_error(name, str(error))
        return cleaned
