"""What people did that no event of a task tells: to types, queues and so on, and deletions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.urls import NoReverseMatch

from .addresses import admin_url
from .presentation import link, person, related, time_tag, visible

#: Acts that are shown of each kind, the newest.
MOST_ACTS = 50
APP = "taskcontrol"


@dataclass(frozen=True)
class Act:
    """One act of a person, as the history of what it was done to keeps it."""

    row: Any

    @property
    def time(self) -> Any:
        """When it was, in full."""
        return time_tag(self.row.action_time)

    @property
    def who(self) -> str:
        """Who did it."""
        return person(related(self.row, "user"), self.row.user_id)

    @property
    def kind(self) -> str:
        """What kind of thing it was done to."""
        return visible(self.row.content_type.name)

    @property
    def what(self) -> Any:
        """The thing, as a link to its page."""
        name = visible(self.row.object_repr)
        kind = self.row.content_type
        try:
            page = admin_url(f"{kind.app_label}_{kind.model}_change", self.row.object_id)
            url = "" if self.row.is_deletion() else page
        except NoReverseMatch:
            url = ""
        return link(url, name) if url else name

    @property
    def told(self) -> str:
        """What was done."""
        return visible(self.row.get_change_message() or self.row.get_action_flag_display())


def acts_on_machinery() -> list[Act]:
    """Return the newest acts on what is no task, and the newest deletions of tasks.

    With a task go its events, so that only the history of admin tells who deleted it.
    """
    from django.contrib.admin.models import DELETION, LogEntry
    from django.contrib.contenttypes.models import ContentType

    types = dict(ContentType.objects.filter(app_label=APP).values_list("model", "pk"))
    of_tasks = types.pop("tasklog", None)
    rows = LogEntry.objects.order_by("-pk").select_related("content_type", "user")
    # Each with a bound of its own: many deletions at once push nothing else off the page.
    found = [
        *rows.filter(content_type__in=list(types.values()))[:MOST_ACTS],
        *rows.filter(content_type=of_tasks, action_flag=DELETION)[:MOST_ACTS],
    ]
    return [Act(row) for row in sorted(found, key=lambda row: row.pk, reverse=True)]
