"""What sample tasks write to, so that tests see which effects stayed."""

from __future__ import annotations

from django.db import models


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
