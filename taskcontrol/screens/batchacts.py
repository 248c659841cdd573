"""The list actions on batches: ask first, with the tasks of each, then act on those shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..audit import given_reason
from ..batches import counts_of
from ..exceptions import NotPermitted, TaskControlError
from ..text import storable
from ..wording import counted
from .asking import AsksFirst
from .batchbuttons import CANCEL, PAUSE, RESUME, RETRY, Verb
from .batchstate import state_of
from .presentation import visible
from .pressing import GONE

#: Batches that one click acts on; each may have many tasks.
MOST_AT_ONCE = 50


@dataclass(frozen=True)
class Line:
    """What would become of one batch."""

    name: str
    state: SafeString
    fits: bool
    #: Tasks that would be moved, as they stand.
    number: int


class ActsOnBatches(AsksFirst):
    """The list actions; each is shown to those who have its permission."""

    actions = ("resume_batches", "retry_batches", "pause_batches", "cancel_batches")

    @admin.action(permissions=["prioritize"], description=_("Resume selected batches…"))
    def resume_batches(self, request: HttpRequest, queryset: Any) -> Any:
        """Let what is held back go on."""
        return self.ask_then_act(RESUME, request, queryset)

    @admin.action(permissions=["retry"], description=_("Retry what failed in them…"))
    def retry_batches(self, request: HttpRequest, queryset: Any) -> Any:
        """Run the failed tasks again."""
        return self.ask_then_act(RETRY, request, queryset)

    @admin.action(permissions=["prioritize"], description=_("Pause selected batches…"))
    def pause_batches(self, request: HttpRequest, queryset: Any) -> Any:
        """Hold the waiting tasks back."""
        return self.ask_then_act(PAUSE, request, queryset)

    @admin.action(permissions=["cancel"], description=_("Cancel selected batches…"))
    def cancel_batches(self, request: HttpRequest, queryset: Any) -> Any:
        """Stop all tasks that have not ended."""
        return self.ask_then_act(CANCEL, request, queryset)

    def response_action(
        self, request: HttpRequest, queryset: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Take the action; more than a list shows, or what no list sends, is refused."""
        keys = request.POST.getlist(ACTION_CHECKBOX_NAME)
        if len(keys) > MOST_AT_ONCE or not all(map(storable, keys)):
            raise SuspiciousOperation("These are not the selected batches of a list.")
        return super().response_action(request, queryset, *args, **kwargs)

    def ask_then_act(self, verb: Verb, request: HttpRequest, queryset: Any) -> Any:
        """Show what would be done to which; once confirmed, do it and tell."""
        if "confirmed" not in request.POST:
            return self._ask(verb, request, queryset)
        # Not those of the filtered list: what moved on since would not be told of.
        keys = request.POST.getlist(ACTION_CHECKBOX_NAME)
        rows = self.get_queryset(request).filter(pk__in=keys).order_by("created_at", "pk")
        outcomes, moved = act_on_all(
            verb, rows, request, given_reason(request.POST.get("reason"))
        )
        level = messages.SUCCESS if set(outcomes) == {verb.done} else messages.WARNING
        self.message_user(request, told(verb, outcomes, moved), level)
        return None

    def _ask(self, verb: Verb, request: HttpRequest, queryset: Any) -> Any:
        batches = list(queryset[: MOST_AT_ONCE + 1])
        if len(batches) > MOST_AT_ONCE:
            most = _("At most %(most)s batches at once: select fewer.")
            self.message_user(request, most % {"most": MOST_AT_ONCE}, messages.WARNING)
            return None
        lines = list(_lines(verb, batches))
        return self.question(
            request,
            verb,
            keys=[batch.pk for batch in batches],
            lines=lines,
            fitting=sum(line.fits for line in lines),
        )


def _lines(verb: Verb, batches: Iterable[Any]) -> Iterable[Line]:
    for batch in _counted(batches):
        fits = verb.fits(batch)
        number = verb.moves(batch) if fits else 0
        yield Line(visible(batch), state_of(batch), fits, number)


def _counted(batches: Iterable[Any]) -> list[Any]:
    batches = list(batches)
    numbers = counts_of(batches)
    for batch in batches:
        batch.numbers = numbers[batch.pk]
    return batches


def act_on_all(
    verb: Verb, batches: Iterable[Any], request: HttpRequest, reason: str
) -> tuple[Counter[str], int]:
    """Do it to each of ``batches``; return what became of how many, and the tasks moved.

    One after the other, each as its button does it: one that refuses undoes no other.
    """
    outcomes, moved = Counter[str](), 0
    for batch in _counted(batches):
        if not verb.fits(batch):
            outcomes["left alone"] += 1
            continue
        try:
            moved += verb.act(request.user, batch, reason)[0]
        except NotPermitted:
            outcomes["not permitted"] += 1
        except GONE:
            outcomes["no longer there"] += 1
        except TaskControlError:
            outcomes["refused: press the button on their pages to see why"] += 1
        else:
            outcomes[verb.done] += 1
    return outcomes, moved


def told(verb: Verb, outcomes: Counter[str], moved: int) -> str:
    """Return it as a sentence: "38 tasks of 2 batches canceled, 1 left alone."."""
    number = counted(outcomes[verb.done], "batch", "batches")
    left = [
        f"{count:,} {what}" for what, count in sorted(outcomes.items()) if what != verb.done
    ]
    return ", ".join([f"{counted(moved, 'task')} of {number} {verb.done}", *left]) + "."
