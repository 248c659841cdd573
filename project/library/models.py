"""The one noun of the library: a source file and what its last indexing found."""

from __future__ import annotations

from django.db import models


class SourceFile(models.Model):
    """What is in one source file; a file that does not parse has no row, or its old one."""

    root = models.CharField(max_length=20)
    path = models.CharField(max_length=255, help_text="Relative to its root.")
    lines = models.PositiveIntegerField()
    functions = models.PositiveIntegerField()
    classes = models.PositiveIntegerField()
    imports = models.JSONField(default=list, help_text="Names of the imported modules.")
    indexed_at = models.DateTimeField()
    #: The task that wrote this row and its batch, by key: both may be pruned before it.
    task_id = models.BigIntegerField("task", null=True)
    batch_id = models.CharField("batch", max_length=140, blank=True)

    class Meta:
        ordering = ("root", "path")
        permissions = (("index_sourcefile", "Can index the library"),)
        constraints = (
            models.UniqueConstraint(fields=["root", "path"], name="library_file_once"),
        )

    def __str__(self) -> str:
        return f"{self.root}/{self.path}"
