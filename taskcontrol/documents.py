"""The documents of tasks: rows of the project's models that tasks act on, or tell of changes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import router
from django.db.models import Model

from . import actions
from .context import on_behalf_of
from .exceptions import DocumentNotFound, InvalidCall, MethodNotFound
from .models import Announcement, TaskLog
from .options import label

#: The method of a document that is told of every change of its tasks.
HEARS = "on_async_task_status_update"


@dataclass(frozen=True)
class Document:
    """The document of a call of ``enqueue``, checked; ``action`` is None for a mere link."""

    model: type[Model]
    name: str
    action: str | None
    database: str

    @property
    def key(self) -> str:
        """The method of a task that acts on it: "app_label.Model.action"."""
        return actions.key_of(self.model, self.action or "")

    @property
    def columns(self) -> dict[str, str]:
        """What the row keeps of it."""
        return {
            "document_type": self.model._meta.label,
            "document_name": self.name,
            "document_action": self.action or "",
        }

    @property
    def policies(self) -> dict[str, str]:
        """What the row keeps of it that no query filters by."""
        usual = router.db_for_write(self.model)
        return {} if self.database == usual else {"document_database": self.database}

    @property
    def hears(self) -> bool:
        """Whether it wants to be told of the changes of the task."""
        return hasattr(self.model, HEARS)

    def target(self) -> Callable[..., Any]:
        """Return the method that the action will call, bound to no document yet."""
        name = actions.method_name(self.model, self.action or "")
        return actions.as_bound(self.model, name)


def document_of(method: Any, options: Mapping[str, Any]) -> Document | None:
    """Return the document that a call names; None without one.

    Raises InvalidCall for half of one, and for an action beside a method.
    """
    kind, name = options.get("document_type"), options.get("document_name")
    action = options.get("document_action")
    if isinstance(kind, Model) and name is None:
        name = kind
    if kind is None and name is None and action is None:
        return None
    if kind is None or name is None or (action is None) == (method is None):
        raise InvalidCall(_what_is_missing(kind, name, action, method))
    model = model_of(kind)
    if action is not None:
        action = label(100)("document_action", action)
    return Document(model, _name_of(model, name), action, _database_of(model, kind))


def _what_is_missing(kind: Any, name: Any, action: Any, method: Any) -> str:
    if action is not None and method is not None:
        return (
            f"document_action={action!r} says what runs, and so does the method {method!r}; "
            "give one of them. document_type and document_name beside a method are a link."
        )
    said = {"document_type": kind, "document_name": name, "document_action": action}
    missing = [option for option, value in said.items() if value is None]
    return (
        f"An action on a document needs document_type, document_name and document_action; "
        f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing. With a "
        "method, type and name alone are a link."
    )


def model_of(kind: Any) -> type[Model]:
    """Return the model that a document type names: "app_label.Model", class or instance."""
    if isinstance(kind, Model):
        return type(kind)
    if inspect.isclass(kind) and issubclass(kind, Model) and not kind._meta.abstract:
        return kind
    try:
        return apps.get_model(kind)
    except (LookupError, ValueError, TypeError, AttributeError):
        raise InvalidCall(
            f"document_type={kind!r} names no model; write 'app_label.Model', or give the "
            "class or an instance."
        ) from None


def _name_of(model: type[Model], name: Any) -> str:
    """Return the primary key as text, as the model itself would write it."""
    if isinstance(name, Model) and not isinstance(
        name, model._meta.concrete_model or model
    ):
        raise InvalidCall(
            f"document_name={name!r} is a {name._meta.label} and no {model._meta.label}."
        )
    key = name.pk if isinstance(name, Model) else name
    if key is None:
        raise InvalidCall(f"{name!r} is not saved, so no worker could find it.")
    if isinstance(key, tuple | list):
        raise InvalidCall(
            f"{model._meta.label} has a key of several columns; tasks act on documents "
            "with a key of one."
        )
    try:
        _refuse_rounding(key)
        value = model._meta.pk.to_python(key)
    except ValidationError as error:
        raise InvalidCall(
            f"document_name={key!r} cannot be a key of {model._meta.label}: "
            f"{' '.join(error.messages)}"
        ) from None
    return label(255)("document_name", value)


def _refuse_rounding(key: Any) -> None:
    """Raise ValidationError for what would become another key: 1.5 and True become 1."""
    if isinstance(key, bool | float):
        raise ValidationError("A key is no truth value and no fraction.")


def _database_of(model: type[Model], kind: Any) -> str:
    """Return where to find the document: where what is written to it goes."""
    hints = {"instance": kind} if isinstance(kind, Model) else {}
    return router.db_for_write(model, **hints)


def find(row: TaskLog) -> Model:
    """Return the document of ``row`` from its database; raise DocumentNotFound."""
    model = _model_here(row)
    using = row.options.get("document_database") or router.db_for_write(model)
    document: Model | None = (
        model._base_manager.using(using).filter(pk=row.document_name).first()
    )
    if document is None:
        raise DocumentNotFound(row.document_type, row.document_name, using)
    return document


def action_of(row: TaskLog) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return what ``row`` runs, which reads the document first, and the method it calls.

    What may run is asked again: the code may be another than at the call.
    """
    model = _model_here(row)
    name = actions.method_name(model, row.document_action)

    def act(**arguments: Any) -> Any:
        return getattr(find(row), name)(**arguments)

    return act, actions.as_bound(model, name)


def _model_here(row: TaskLog) -> type[Model]:
    try:
        return model_of(row.document_type)
    except InvalidCall:
        why = f"there is no model {row.document_type!r}"
        raise MethodNotFound(row.method, why) from None


def tell_document(task: TaskLog, news: Announcement) -> None:
    """Tell the document of ``task`` of a change: ``on_async_task_status_update``.

    The task that it is handed has the status that the news is of; it runs as the creator.
    """
    try:
        document = find(task) if task.document_name else None
    except (DocumentNotFound, MethodNotFound):
        return
    hear = getattr(document, HEARS, None)
    if hear is None:
        return
    # A copy, so that nobody else takes the status of this news for that of the row.
    seen = copy(task)
    vars(seen)["status"] = news.new
    try:
        with on_behalf_of(task.runs_as):
            hear(seen, news.message, news.error or None)
    except SystemExit as error:
        raise RuntimeError(f"{HEARS} of {document!r} raised {error!r}") from error
