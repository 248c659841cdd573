"""What sample tasks write to, so that tests see which effects stayed."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

import taskcontrol
from tests.recording import record


class Counter(models.Model):
    """A number that bodies raise, and a document that has tasks of its own."""

    name = models.CharField(max_length=100)
    value = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.name

    def raise_by(self, amount: int = 1) -> int:
        """Add ``amount`` and return the new value: a document's method as a task."""
        self.value += amount
        self.save(update_fields=["value"])
        return self.value


class Paper(models.Model):
    """A document that is acted upon, and hears how that goes."""

    title = models.CharField(max_length=100)
    state = models.CharField(max_length=20, default="draft")

    def __str__(self) -> str:
        return self.title

    def submit(self, **options: Any) -> Any:
        """Submit it in the background."""
        return taskcontrol.enqueue_doc(self, "submit", **options)

    @taskcontrol.document_action(one_per_document=True, queue="short")
    def _submit(self, note: str = "") -> str:
        self.state = "submitted"
        self.save(update_fields=["state"])
        return f"submitted {self.title} {note}".strip()

    @taskcontrol.document_action
    def stamp(self, mark: str, times: int = 1) -> str:
        """Return what it would look like."""
        return f"{self.title} {mark * times}"

    @taskcontrol.document_action
    @taskcontrol.whitelist(permission="tests.change_paper")
    def sign(self) -> str:
        """Sign it, which may be asked for from outside."""
        user = taskcontrol.current_task()
        return f"{self.title} signed by {user and user.user}"

    @taskcontrol.document_action
    def burn(self) -> None:
        """Fail."""
        raise ValueError(f"{self.title} does not burn")

    @taskcontrol.document_action
    def spoil(self) -> None:
        """Fail after a change was saved."""
        self.state = "spoilt"
        self.save()
        raise ValueError("too late")

    async def dream(self) -> None:
        """Only make a coroutine."""

    @taskcontrol.document_action
    @classmethod
    def describe(cls) -> str:
        """Return what it is, without looking at one."""
        return cls.__name__

    def shred(self) -> None:
        """Not an action."""

    def _hide(self) -> None:
        """Not an action either."""

    def hide(self) -> None:
        """Is behind the one that comes first and is no action."""

    @property
    def color(self) -> str:
        """No method."""
        return "white"

    def on_async_task_status_update(self, task: Any, message: Any, error: Any) -> None:
        """Write down what it is told."""
        record("told", paper=self.pk, task=task.pk, status=task.status, rev=task.rev)
        if self.title == "angry":
            raise RuntimeError("I do not want to hear it.")
        if self.title == "rude":
            raise SystemExit("enough")
        self.heard(task, message, error)

    def heard(self, task: Any, message: Any, error: Any) -> None:
        """A place for tests to listen."""


class Ticket(models.Model):
    """A document with a key that is no number, and nothing to be told."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    price = models.IntegerField(default=0)

    def __str__(self) -> str:
        return str(self.id)

    @taskcontrol.document_action
    def sell(self) -> int:
        """Return its price."""
        return self.price


class Order(models.Model):
    """What the documents call a Sales Invoice, a Sales Order or My Doctype."""

    name = models.CharField(max_length=100, primary_key=True)
    state = models.CharField(max_length=20, default="draft")

    def __str__(self) -> str:
        return f"{self.name} ({self.state})"

    def submit(self) -> None:
        """Never called in the background: ``_submit`` comes first."""
        raise AssertionError("_submit comes first")

    def _submit(self) -> str:
        self.state = "submitted"
        self.save(update_fields=["state"])
        return f"submitted {self.name}"

    def my_custom_method(self, some_arg: str) -> str:
        """Say what it got."""
        return f"{self.name} got {some_arg}"

    def do_something(self, param: str) -> str:
        """Say what it got."""
        return f"{self.name} does {param}"

    def create_delivery_note(self) -> None:
        """This method will be executed in background"""
        delivery_note = Order(name="Delivery Note")
        # ... create delivery note
        delivery_note.save()


class SyncLog(models.Model):
    """What the documents call an External Sync Log."""

    customer = models.CharField(max_length=100)
    sync_date = models.DateField()
    status = models.CharField(max_length=20)

    def __str__(self) -> str:
        return f"{self.customer} {self.sync_date} {self.status}"
