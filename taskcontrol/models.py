"""The nouns and their constraints, and querysets in the words of the domain; no moves."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from .conf import conf
from .context import nobody
from .dialect import DatabaseMicroseconds, DatabaseNow, ExactCharField, PartialIndex
from .exceptions import StandardTypeProtected
from .status import ACTIVE, TERMINAL, Status

USER = settings.AUTH_USER_MODEL


class HomeManager(models.Manager[Any]):
    """Reads and writes the database of ``TASKCONTROL["DATABASE"]`` unless told otherwise."""

    def get_queryset(self) -> Any:
        """Return every row of the tasks' database."""
        rows = super().get_queryset()
        return rows if self._db else rows.using(conf.DATABASE)


def weak_key(to: Any, **options: Any) -> Any:
    """Return a foreign key without a constraint in the database.

    A constraint's lock would make a caller's open transaction stop the dispatcher, and
    deleting a user or a worker would have to visit every task.
    """
    options = {"related_name": "+", "null": True, "blank": True, **options}
    return models.ForeignKey(
        to, on_delete=models.DO_NOTHING, db_constraint=False, **options
    )


class OnLost(models.TextChoices):
    """What becomes of a task whose process was lost."""

    RERUN = "rerun", _("run again, a limited number of times")
    FAIL = "fail", _("fail")


class TaskTypeQuerySet(models.QuerySet["TaskType"]):
    """Task types; the standard ones are neither deleted nor renamed in bulk."""

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete these types, or none when a protected one is among them."""
        refuse_if_standard(self)
        return super().delete()

    def update(self, **values: Any) -> int:
        """Update these types; renaming a protected one is refused."""
        if {"method", "is_standard"} & values.keys():
            refuse_if_standard(self)
        return super().update(**values)


def refuse_if_standard(types: models.QuerySet[TaskType]) -> None:
    """Raise StandardTypeProtected when a protected type is among the stored ``types``.

    Asks the database: an object in memory may have been renamed or declared ordinary.
    """
    if not standard_types_are_protected():
        return
    methods = list(types.filter(is_standard=True).values_list("method", flat=True))
    if methods:
        raise StandardTypeProtected(methods)


def standard_types_are_protected() -> bool:
    """Return whether standard types may not be deleted or renamed here."""
    protect = conf.PROTECT_STANDARD_TYPES
    return not settings.DEBUG if protect is None else bool(protect)


class TaskType(models.Model):
    """What holds for every task of one method: priority, limit, pause and defaults."""

    method = models.CharField(
        _("method"),
        max_length=255,
        unique=True,
        help_text=_("Dotted path of the callable, or app_label.Model.action."),
    )
    priority = models.SmallIntegerField(
        _("priority"), default=0, help_text=_("Higher goes first.")
    )
    concurrency_limit = models.PositiveIntegerField(
        _("concurrency limit"),
        default=0,
        help_text=_("Most tasks of this type sent or running at once; 0 = no limit."),
    )
    rate_limit = models.CharField(
        _("rate limit"),
        max_length=20,
        blank=True,
        help_text=_("Most of them sent within any period: 10/s, 10/m, 10/h or 10/d."),
    )
    is_standard = models.BooleanField(
        _("standard"),
        default=False,
        help_text=_("Declared in code; cannot be deleted or renamed in production."),
    )
    description = models.CharField(_("description"), max_length=300, blank=True)

    queue = models.CharField(_("queue"), max_length=100, blank=True)
    timeout = models.PositiveIntegerField(
        _("timeout"), null=True, blank=True, help_text=_("Seconds.")
    )
    max_retries = models.PositiveSmallIntegerField(_("max retries"), null=True, blank=True)
    retry_delay = models.FloatField(
        _("retry delay"), null=True, blank=True, help_text=_("Seconds.")
    )
    backoff = models.JSONField(_("backoff"), null=True, blank=True)
    #: Dotted paths of exception classes.
    retry_on = models.JSONField(_("retry on"), null=True, blank=True)
    discard_on = models.JSONField(_("discard on"), null=True, blank=True)
    atomic = models.BooleanField(_("atomic"), null=True, blank=True)
    on_lost = models.CharField(
        _("when its process is lost"),
        max_length=10,
        choices=OnLost.choices,
        default=OnLost.RERUN,
    )
    store_celery_result = models.BooleanField(_("store a Celery result"), default=False)
    one_per_document = models.BooleanField(_("one at a time per document"), default=False)
    retention_days = models.JSONField(
        _("retention"), null=True, blank=True, help_text=_("Days by status.")
    )
    owner_may_cancel = models.BooleanField(_("owner may cancel"), default=True)
    owner_may_retry = models.BooleanField(_("owner may retry"), default=False)

    paused_at = models.DateTimeField(_("paused at"), null=True, blank=True, editable=False)
    paused_by = weak_key(USER, verbose_name=_("paused by"), editable=False)
    paused_until = models.DateTimeField(_("paused until"), null=True, blank=True)
    paused_reason = models.CharField(_("reason of the pause"), max_length=300, blank=True)

    #: The values last declared in code, so that a person's edit is told from an old default.
    #: None until a process that has imported the code has looked: see ``tasktypes.confirm``.
    declared = models.JSONField(default=dict, null=True, blank=True, editable=False)
    #: Seconds that a run usually takes, learned from the runs; None until one has ended.
    usual_seconds = models.FloatField(null=True, blank=True, editable=False)

    objects = HomeManager.from_queryset(TaskTypeQuerySet)()

    class Meta:
        verbose_name = _("task type")
        verbose_name_plural = _("task types")
        ordering = ("-priority", "method")
        permissions = (("run_tasktype", "Can run a task of any type from admin"),)

    def __str__(self) -> str:
        return self.method

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, unless this renames a protected standard type or makes it an ordinary one."""
        if self.pk:
            same = {"method": self.method, "is_standard": self.is_standard}
            refuse_if_standard(TaskType.objects.filter(pk=self.pk).exclude(**same))
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete, unless this is a protected standard type."""
        refuse_if_standard(TaskType.objects.filter(pk=self.pk))
        return super().delete(*args, **kwargs)

    @classmethod
    def default_of(cls, column: str) -> Any:
        """Return what a column holds when nobody says."""
        field = cls._meta.get_field(column)
        return field.get_default() if isinstance(field, models.Field) else None


class Worker(models.Model):
    """One boot of a Celery worker's main process, and its signs of life."""

    boot = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    hostname = models.CharField(_("name"), max_length=255)
    pid = models.PositiveIntegerField(_("process id"))
    pool = models.CharField(_("pool"), max_length=20)
    pool_size = models.PositiveIntegerField(_("slots"))
    queues = models.JSONField(_("queues"), default=list)
    started_at = models.DateTimeField(_("started"), db_default=DatabaseNow())
    last_seen_at = models.DateTimeField(_("last seen"), db_default=DatabaseNow())
    leaving_at = models.DateTimeField(_("leaving since"), null=True, blank=True)
    left_at = models.DateTimeField(_("left"), null=True, blank=True)
    lost_at = models.DateTimeField(_("lost"), null=True, blank=True)
    #: Whether messages wait in the broker and not in the process: only then may work wait past
    #: Pending without losing its order.
    prefetch_off = models.BooleanField(default=False)
    #: Whether the event loop takes messages; a hung loop shows as "not consuming".
    consuming = models.BooleanField(default=True)
    memory_kb = models.BigIntegerField(_("memory (KB)"), null=True, blank=True)
    cpu_percent = models.FloatField(_("CPU %"), null=True, blank=True)
    #: Seconds by which its machine's clock is ahead of the database's.
    clock_offset = models.FloatField(_("clock ahead (s)"), null=True, blank=True)
    children = models.JSONField(_("children"), default=list, blank=True)
    #: [task, attempt] of each body that its processes have in hand as of ``last_seen_at``.
    held = models.JSONField(_("holds"), default=list, blank=True)
    versions = models.JSONField(_("versions"), default=dict, blank=True)

    objects = HomeManager()

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        ordering = ("-id",)
        permissions = (("control_worker", "Can ping, drain and stop workers"),)
        indexes = (
            # live workers: the dispatch pass, rescue, the overview
            PartialIndex(
                fields=["last_seen_at"],
                name="taskcontrol_worker_live",
                condition=Q(left_at=None, lost_at=None),
            ),
        )

    def __str__(self) -> str:
        return self.hostname


#: True of a task that has not ended. Indexes that promise it are found by these very words.
UNENDED = Q(ended_at=None) | Q(retry_at__isnull=False)
#: Seconds after ``expires_at`` in which a claim that began before it may still be written.
EXPIRY_MARGIN = 10.0


def may_run(task: str = "") -> Q:
    """Return what is true of tasks that run, or may start because they have not expired.

    The sweep cancels the others as soon as a dispatcher is there. ``task`` is the way to
    the task, such as ``"task__"``.
    """
    in_time = DatabaseNow() - seconds(EXPIRY_MARGIN)
    return (
        Q(**{f"{task}expires_at": None})
        | Q(**{f"{task}expires_at__gt": in_time})
        | Q(**{f"{task}status": Status.STARTED})
    )


class TaskLogQuerySet(models.QuerySet["TaskLog"]):
    """Tasks, in the words of the domain."""

    def pending(self) -> TaskLogQuerySet:
        """Return the tasks that wait for the dispatcher."""
        return self.filter(status=Status.PENDING)

    def active(self) -> TaskLogQuerySet:
        """Return the tasks that were sent to a worker or run there."""
        return self.filter(status__in=ACTIVE)

    def ended(self) -> TaskLogQuerySet:
        """Return the tasks that will not go on by themselves: no retry is due."""
        return self.filter(status__in=TERMINAL, retry_at=None)

    def unended(self) -> TaskLogQuerySet:
        """Return the others: the tasks that wait, run, or are to be retried."""
        return self.filter(UNENDED)

    def occupying(self) -> TaskLogQuerySet:
        """Return the tasks that hold a place: sent, running, or told to stop but not gone."""
        return self.filter(occupies=True)

    def stopping(self) -> TaskLogQuerySet:
        """Return the tasks whose body may still run although the row moved on."""
        return self.occupying().exclude(status__in=ACTIVE)


class TaskLog(models.Model):
    """One task: one piece of work to be done once, from enqueue to its end."""

    job_name = models.CharField(_("job name"), max_length=300)
    method = models.CharField(_("method"), max_length=255)
    queue = models.CharField(_("queue"), max_length=100, default="default")
    timeout = models.PositiveIntegerField(_("timeout"), default=300)
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.PENDING
    )
    at_front = models.BooleanField(_("at front"), default=False)
    call_whitelisted_function = models.BooleanField(_("safe call"), default=False)
    arguments = models.JSONField(_("arguments"), default=dict, blank=True)
    document_type = models.CharField(_("document type"), max_length=200, blank=True)
    document_name = models.CharField(_("document name"), max_length=255, blank=True)
    document_action = models.CharField(_("document action"), max_length=100, blank=True)
    batch_id = models.CharField(_("batch"), max_length=140, null=True, blank=True)  # noqa: DJ001
    batch_order = models.IntegerField(_("order in the batch"), default=0)
    max_retries = models.PositiveSmallIntegerField(_("max retries"), default=0)
    retry_delay = models.FloatField(_("retry delay"), null=True, blank=True)
    retry_count = models.PositiveIntegerField(_("retries"), default=0)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    time_taken = models.DurationField(_("time taken"), null=True, blank=True)
    peak_memory_usage = models.BigIntegerField(_("peak memory (KB)"), null=True, blank=True)
    error_message = models.TextField(_("error"), blank=True)
    debug_log = models.TextField(_("debug log"), blank=True)

    created_at = models.DateTimeField(_("created"), db_default=DatabaseNow())
    created_by = weak_key(USER, verbose_name=_("created by"), db_index=False)
    queued_at = models.DateTimeField(_("queued"), null=True, blank=True)
    run_at = models.DateTimeField(_("not before"), null=True, blank=True)
    retry_at = models.DateTimeField(_("retry due"), null=True, blank=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    #: None means the type's.
    priority = models.SmallIntegerField(_("priority"), null=True, blank=True)
    #: Place in the line: microseconds of the insert; the rows of one bulk call share one.
    position = models.BigIntegerField(db_default=DatabaseMicroseconds())
    #: The line that this task belongs to: queue, type and priority; see ``lanes.py``.
    lane = models.BigIntegerField(editable=False)
    #: The same while the task is Pending and nothing of its own holds it back, else None:
    #: what the dispatcher reads.
    ready_lane = models.BigIntegerField(null=True, blank=True, editable=False)
    #: +1 at each Pending -> Queued and never reset: the token of every later write.
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    celery_task_id = models.CharField(  # noqa: DJ001
        _("Celery id"), max_length=64, null=True, blank=True
    )
    worker = weak_key(Worker, verbose_name=_("worker"), db_index=False)
    pid = models.PositiveIntegerField(_("process id"), null=True, blank=True)
    #: A place is held until the body is gone; limits and slots count this.
    occupies = models.BooleanField(default=False)
    lost_count = models.PositiveSmallIntegerField(_("times lost"), default=0)
    sent_count = models.PositiveSmallIntegerField(default=0)
    sent_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    canceled_by = weak_key(USER, verbose_name=_("canceled by"), db_index=False)
    ended_reason = models.CharField(_("reason of the end"), max_length=300, blank=True)
    job_id = ExactCharField(_("job id"), max_length=255, null=True, blank=True)
    event = models.CharField(_("event"), max_length=140, blank=True)
    schedule = models.CharField(_("schedule"), max_length=200, blank=True)
    #: The task that must end before this one may be promoted; None once it has ended.
    after = weak_key("self", verbose_name=_("after"), db_index=False)
    #: The task whose body enqueued this one, or of which it is a copy (``options["copy"]``).
    parent = weak_key("self", verbose_name=_("parent"), db_index=False)
    #: Whether its changes are told to more than the receivers of the signal: to callbacks or
    #: to its document.
    heard = models.BooleanField(default=False, editable=False)
    #: Policies that no query filters by: callbacks, backoff, exception lists, atomic, on_lost.
    options = models.JSONField(default=dict, blank=True)
    result = models.JSONField(_("result"), null=True, blank=True)
    progress = models.JSONField(_("progress"), null=True, blank=True)
    #: +1 in each UPDATE.
    rev = models.PositiveIntegerField(default=0)

    objects = HomeManager.from_queryset(TaskLogQuerySet)()

    class Meta:
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        ordering = ("-id",)
        default_permissions = ("view", "delete")
        permissions = (
            ("cancel_tasklog", "Can cancel any task"),
            ("retry_tasklog", "Can retry any task"),
            ("prioritize_tasklog", "Can pause, resume and reorder tasks"),
            ("enqueue_tasklog", "Can enqueue tasks from admin"),
            ("view_sensitive_tasklog", "Can see arguments, tracebacks and logs unmasked"),
        )
        indexes = (
            # the dispatch pass: the lanes with work, and the front of each
            PartialIndex(
                fields=["ready_lane", "-at_front", "position", "batch_order", "id"],
                name="taskcontrol_task_lane",
                condition=Q(ready_lane__isnull=False),
            ),
            # dispatch: occupancy per type and worker; resend, rescue, stopping: few rows
            PartialIndex(
                fields=["method", "worker"],
                name="taskcontrol_task_occupying",
                condition=Q(occupies=True),
            ),
            # the pass: tasks whose run_at has come
            PartialIndex(
                fields=["run_at"],
                name="taskcontrol_task_run_at",
                condition=Q(
                    status=Status.PENDING, ready_lane=None, after=None, run_at__isnull=False
                ),
            ),
            # the retry sweep: what is due
            PartialIndex(
                fields=["retry_at"],
                name="taskcontrol_task_retry_at",
                condition=Q(retry_at__isnull=False),
            ),
            # the pass: waiting tasks that nobody wants any more
            PartialIndex(
                fields=["expires_at"],
                name="taskcontrol_task_expires",
                condition=Q(expires_at__isnull=False, ended_at=None),
            ),
            # the pass: the tasks that others wait for
            PartialIndex(
                fields=["after"],
                name="taskcontrol_task_after",
                condition=Q(after__isnull=False, status=Status.PENDING),
            ),
            # what a task has enqueued, and the copies of it
            PartialIndex(
                fields=["parent", "id"],
                name="taskcontrol_task_parent",
                condition=Q(parent__isnull=False),
            ),
            # how long the line of a queue is; what waits there
            PartialIndex(
                fields=["queue", "status", "id"],
                name="taskcontrol_task_queue",
                condition=Q(status__in=(Status.PENDING, Status.QUEUED)),
            ),
            # get_jobs: what has not ended, however much has
            PartialIndex(
                fields=["queue", "position", "id"],
                name="taskcontrol_task_open",
                condition=UNENDED,
            ),
            # what types usually take; how many have ended
            PartialIndex(
                fields=["ended_at"],
                name="taskcontrol_task_ended",
                condition=Q(ended_at__isnull=False),
            ),
            # pruning: the oldest of each type and status
            PartialIndex(
                fields=["method", "status", "ended_at"],
                name="taskcontrol_task_kept",
                condition=Q(ended_at__isnull=False),
            ),
            # admin: everything but the many Finished ones, by status
            PartialIndex(
                fields=["status", "id"],
                name="taskcontrol_task_status",
                condition=~Q(status=Status.FINISHED),
            ),
            # counts and members of a batch; whether one has not ended, or failed for good
            PartialIndex(
                fields=["batch_id", "status", "retry_at"],
                name="taskcontrol_task_batch",
                condition=Q(batch_id__isnull=False),
            ),
            # get_job
            PartialIndex(
                fields=["job_id", "id"],
                name="taskcontrol_task_job_id",
                condition=Q(job_id__isnull=False),
            ),
            # is_job_enqueued, however often the same job ran before
            PartialIndex(
                fields=["job_id", "ended_at", "retry_at"],
                name="taskcontrol_task_job_open",
                condition=UNENDED & Q(job_id__isnull=False),
            ),
            # search by document
            PartialIndex(
                fields=["document_name", "document_type"],
                name="taskcontrol_task_document",
                condition=~Q(document_name=""),
            ),
            # the runs of a schedule, newest first
            PartialIndex(
                fields=["schedule", "id"],
                name="taskcontrol_task_schedule",
                condition=~Q(schedule=""),
            ),
            # the tasks of one label, newest first
            PartialIndex(
                fields=["event", "id"],
                name="taskcontrol_task_event",
                condition=~Q(event=""),
            ),
            # search by type, newest first
            models.Index(fields=["method", "id"], name="taskcontrol_task_method"),
            # a person's own tasks, newest first
            PartialIndex(
                fields=["created_by", "id"],
                name="taskcontrol_task_owner",
                condition=Q(created_by__isnull=False),
            ),
        )
        constraints = (
            # signals and get_job find the row by it; two rows never share a message
            models.UniqueConstraint(
                fields=["celery_task_id"], name="taskcontrol_task_celery_id"
            ),
            models.CheckConstraint(
                name="taskcontrol_task_status_known",
                condition=Q(status__in=Status.values),
            ),
            models.CheckConstraint(
                name="taskcontrol_task_ended_at_fits",
                condition=Q(status__in=sorted(TERMINAL), ended_at__isnull=False)
                | (~Q(status__in=sorted(TERMINAL)) & Q(ended_at=None)),
            ),
            models.CheckConstraint(
                name="taskcontrol_task_started_at_fits",
                condition=~Q(status=Status.STARTED)
                | Q(started_at__isnull=False, occupies=True),
            ),
            models.CheckConstraint(
                name="taskcontrol_task_queued_at_fits",
                condition=~Q(status=Status.QUEUED)
                | Q(queued_at__isnull=False, occupies=True, attempt__gt=0),
            ),
            models.CheckConstraint(
                name="taskcontrol_task_lane_is_pending",
                condition=Q(ready_lane=None) | Q(status=Status.PENDING, occupies=False),
            ),
            models.CheckConstraint(
                name="taskcontrol_task_retry_is_failed",
                condition=Q(retry_at=None) | Q(status=Status.FAILED),
            ),
        )

    def __str__(self) -> str:
        return f"{self.job_name} ({self.pk})"

    @property
    def name(self) -> str:
        """The key of this task as public calls and the browser take it."""
        return str(self.pk)

    @property
    def ended(self) -> bool:
        """Whether this task will not go on by itself: terminal with no retry due."""
        return self.status in TERMINAL and self.retry_at is None

    @property
    def creator(self) -> Any:
        """The user who created this task; None for the system or a user since deleted."""
        try:
            return self.created_by
        except ObjectDoesNotExist:
            return None

    @property
    def runs_as(self) -> Any:
        """The user with whose rights what belongs to this task runs; None for the system.

        AnonymousUser where nobody knows the user, or where he was deleted since.
        """
        unknown = self.created_by_id is not None or self.options.get("anonymous")
        return self.creator or (nobody() if unknown else None)

    def cancel(self, reason: str = "") -> bool:
        """Cancel this task; see ``taskcontrol.cancel``."""
        from .cancellation import cancel

        return cancel(self, reason=reason)

    def retry(self, now: bool = False) -> TaskLog:  # noqa: FBT001, FBT002 - the seeds' call
        """Run this ended task again; see ``taskcontrol.retry``."""
        from .retries import retry

        return retry(self, now=now)

    def pause(self) -> TaskLog:
        """Hold this task back; see ``taskcontrol.pause``."""
        from .holding import pause

        return pause(self)

    def resume(self) -> TaskLog:
        """Let this task go on; see ``taskcontrol.resume``."""
        from .holding import resume

        return resume(self)

    def notify_status(self, message: Any = None, error: str | None = None) -> None:
        """Announce the status again with a message; see ``taskcontrol.notify_task_status``."""
        from .progress import notify_status

        notify_status(self, message=message, error=error)


class TaskAttempt(models.Model):
    """A run that was followed by another: what the row said before it was cleared."""

    task = weak_key(TaskLog, null=False, related_name="attempts", db_index=False)
    attempt = models.PositiveIntegerField(_("attempt"))
    status = models.CharField(_("status"), max_length=10, choices=Status.choices)
    worker = weak_key(Worker, verbose_name=_("worker"), db_index=False)
    pid = models.PositiveIntegerField(_("process id"), null=True, blank=True)
    celery_task_id = models.CharField(_("Celery id"), max_length=64, blank=True)
    queued_at = models.DateTimeField(_("queued"), null=True, blank=True)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    time_taken = models.DurationField(_("time taken"), null=True, blank=True)
    peak_memory_usage = models.BigIntegerField(_("peak memory (KB)"), null=True, blank=True)
    ended_reason = models.CharField(_("reason of the end"), max_length=300, blank=True)
    error_message = models.TextField(_("error"), blank=True)
    debug_log = models.TextField(_("debug log"), blank=True)

    objects = HomeManager()

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ("task", "attempt")
        default_permissions = ("view",)
        constraints = (
            models.UniqueConstraint(
                fields=["task", "attempt"], name="taskcontrol_attempt_once"
            ),
        )
        # what was taken from a worker that is gone
        indexes = (
            PartialIndex(
                fields=["worker", "id"],
                name="taskcontrol_attempt_lost",
                condition=~Q(ended_reason=""),
            ),
        )

    def __str__(self) -> str:
        return f"{self.task_id}, attempt {self.attempt}"


class TaskEvent(models.Model):
    """What the columns of a task cannot say: who did what to it and why."""

    class Kind(models.TextChoices):
        """What happened."""

        CANCELED = "canceled", _("canceled")
        TOLD = "told", _("told to stop")
        FORCING = "forcing", _("to be stopped by force")
        FORCED = "forced", _("stopped by force")
        GONE = "gone", _("body gone")
        PAUSED = "paused", _("paused")
        RESUMED = "resumed", _("resumed")
        RETRIED = "retried", _("retried")
        REORDERED = "reordered", _("put to the front")
        COPIED = "copied", _("copied")
        RESCUED = "rescued", _("rescued")
        RETURNED = "returned", _("given back")
        RESENT = "resent", _("sent again")
        UNSENT = "unsent", _("not begun, waits again")
        EXPIRED = "expired", _("expired")
        REFUSED = "refused", _("refused")
        CALLBACK = "callback", _("callback failed")

    task = weak_key(TaskLog, null=False, related_name="events", db_index=False)
    at = models.DateTimeField(_("at"), db_default=DatabaseNow())
    kind = models.CharField(_("what"), max_length=20, choices=Kind.choices)
    actor = weak_key(USER, verbose_name=_("by"), db_index=False)
    old = models.CharField(_("from"), max_length=10, blank=True)
    new = models.CharField(_("to"), max_length=10, blank=True)
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    detail = models.CharField(_("detail"), max_length=500, blank=True)

    objects = HomeManager()

    class Meta:
        verbose_name = _("audit event")
        verbose_name_plural = _("audit events")
        ordering = ("id",)
        default_permissions = ("view",)
        indexes = (
            # the timeline of one task
            models.Index(fields=["task", "id"], name="taskcontrol_event_task"),
            # audit: what happened of one kind, and what one person did, newest first
            models.Index(fields=["kind", "id"], name="taskcontrol_event_kind"),
            PartialIndex(
                fields=["actor", "id"],
                name="taskcontrol_event_actor",
                condition=Q(actor__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.task_id} {self.kind}"


class Announcement(models.Model):
    """A change of status made where user code must not run, to be delivered by a child."""

    task = weak_key(TaskLog, null=False, db_index=False)
    rev = models.PositiveIntegerField()
    old = models.CharField(max_length=10)
    new = models.CharField(max_length=10)
    message = models.JSONField(null=True)
    error = models.TextField(blank=True)
    #: Whether an automatic retry follows, so that this failure is not the end.
    retry_due = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=DatabaseNow())
    #: Since when somebody tells it; long ago means that he died over it.
    taken_at = models.DateTimeField(null=True)
    #: How often somebody took it.
    tellings = models.PositiveSmallIntegerField(default=0)

    objects = HomeManager()

    class Meta:
        default_permissions = ()
        # what stands before a child's own announcement of the same task
        indexes = (models.Index(fields=["task", "rev"], name="taskcontrol_announce_task"),)

    def __str__(self) -> str:
        return f"{self.task_id} {self.old} -> {self.new}"


class WaitInterval(models.Model):
    """A time in which a scope promoted nothing, and why: see ``waits.py``."""

    class Scope(models.TextChoices):
        """What was closed."""

        DISPATCHER = "dispatcher", _("dispatcher")
        QUEUE = "queue", _("queue")
        TYPE = "type", _("task type")
        LIMIT = "limit", _("limit of a task type")
        RATE = "rate", _("rate of a task type")
        POOL = "pool", _("slots")
        BROKER = "broker", _("broker")
        WORKER = "worker", _("workers")

    scope = models.CharField(_("scope"), max_length=12, choices=Scope.choices)
    key = models.CharField(_("key"), max_length=255, blank=True)
    reason = models.CharField(_("reason"), max_length=300, blank=True)
    actor = weak_key(USER, verbose_name=_("by"), db_index=False)
    from_at = models.DateTimeField(_("from"), db_default=DatabaseNow())
    to_at = models.DateTimeField(_("to"), null=True, blank=True)

    objects = HomeManager()

    class Meta:
        verbose_name = _("wait interval")
        verbose_name_plural = _("wait intervals")
        ordering = ("-id",)
        default_permissions = ("view",)
        # the intervals that cut a task's waiting time
        indexes = (
            models.Index(fields=["scope", "key", "to_at"], name="taskcontrol_wait_scope"),
        )

    def __str__(self) -> str:
        return f"{self.scope} {self.key}"


class Incident(models.Model):
    """Something that should not be, what mended it, and until when it was so.

    One row for each kind, task and attempt (and ``key``, where these do not tell it):
    seen again, it counts on. Every column but ``kind`` has a default of the database, so
    that a trigger may write it too.
    """

    class Kind(models.TextChoices):
        """What is amiss; see ``accounting.py``."""

        LOST = "lost", _("lost")
        GHOST = "ghost", _("ghost message")
        DOUBLE = "double", _("double")
        ZOMBIE = "zombie", _("zombie")
        ILLEGAL = "illegal", _("illegal move")

    kind = models.CharField(_("what"), max_length=10, choices=Kind.choices)
    #: 0 where it is about no task, or about one that cannot be.
    task_id = models.BigIntegerField(_("task"), default=0, db_default=0)
    attempt = models.PositiveIntegerField(_("attempt"), default=0, db_default=0)
    #: Tells apart what happens to one attempt, or to none: a queue, a rule.
    key = ExactCharField(max_length=100, blank=True, default="", db_default="")
    worker = weak_key(Worker, verbose_name=_("worker"), db_index=False)
    found = models.CharField(
        _("what was found"), max_length=500, blank=True, default="", db_default=""
    )
    repair = models.CharField(
        _("repair"), max_length=300, blank=True, default="", db_default=""
    )
    first_at = models.DateTimeField(_("first seen"), db_default=DatabaseNow())
    last_at = models.DateTimeField(_("last seen"), db_default=DatabaseNow())
    count = models.PositiveIntegerField(_("times seen"), default=1, db_default=1)
    resolved_at = models.DateTimeField(_("over since"), null=True, blank=True)

    objects = HomeManager()

    class Meta:
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        ordering = ("-last_at", "-id")
        default_permissions = ("view",)
        constraints = (
            models.UniqueConstraint(
                fields=["task_id", "attempt", "kind", "key"],
                name="taskcontrol_incident_once",
            ),
        )
        indexes = (
            # the overview: what is not over
            PartialIndex(
                fields=["last_at"],
                name="taskcontrol_incident_open",
                condition=Q(resolved_at=None),
            ),
            # the screen and pruning
            models.Index(fields=["last_at", "id"], name="taskcontrol_incident_last"),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.task_id}"


class TaskKey(models.Model):
    """A deduplication key and the task that took it last; it counts until that has ended."""

    key = ExactCharField(max_length=255)
    slot = models.PositiveSmallIntegerField(default=0)
    task = weak_key(TaskLog)

    objects = HomeManager()

    class Meta:
        default_permissions = ()
        constraints = (
            models.UniqueConstraint(fields=["key", "slot"], name="taskcontrol_key_once"),
        )

    def __str__(self) -> str:
        return self.key


class Lock(models.Model):
    """A name that one block of code holds at a time: see ``taskcontrol.lock``."""

    key = ExactCharField(max_length=255, unique=True)
    #: Of this one holding: what extends, guards and releases it names it.
    token = models.UUIDField(default=uuid.uuid4)
    taken_at = models.DateTimeField(db_default=DatabaseNow())
    #: Unless it is extended before; anybody may take it afterwards.
    expires_at = models.DateTimeField()
    #: Who holds it: a process of a machine, and the attempt that runs there.
    holder = models.CharField(max_length=300)
    task = weak_key(TaskLog, db_index=False)
    attempt = models.PositiveIntegerField(default=0)

    objects = HomeManager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.key


class Checkpoint(models.Model):
    """How far a loop over chunks has come: see ``taskcontrol.iter_chunks``."""

    task = weak_key(TaskLog, null=False, db_index=False)
    #: Of the loop, for bodies that have several.
    name = ExactCharField(max_length=100, blank=True)
    done = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0)
    #: Items that there were in all, where that was known.
    total = models.BigIntegerField(null=True)
    #: The key of the last row, for querysets.
    place = models.JSONField(null=True)
    #: The first items that failed, each {"item": …, "error": …}.
    errors = models.JSONField(default=list)
    saved_at = models.DateTimeField(db_default=DatabaseNow())

    objects = HomeManager()

    class Meta:
        default_permissions = ()
        constraints = (
            models.UniqueConstraint(
                fields=["task", "name"], name="taskcontrol_checkpoint_once"
            ),
        )

    def __str__(self) -> str:
        return f"{self.task_id} {self.name}: {self.done}"


class TaskBatch(models.Model):
    """Tasks enqueued together; its numbers are read from the rows until they are pruned."""

    class OnFailure(models.TextChoices):
        """What the rest of the batch does when a member has failed for good."""

        CONTINUE = "continue", _("goes on")
        HOLD = "hold", _("is held back")

    id = models.CharField(_("batch id"), max_length=140, primary_key=True)
    title = models.CharField(_("title"), max_length=300, blank=True)
    created_at = models.DateTimeField(_("created"), db_default=DatabaseNow())
    created_by = weak_key(USER, verbose_name=_("created by"))
    total = models.PositiveIntegerField(_("tasks"), default=0)
    on_failure = models.CharField(
        _("after a failure the rest"),
        max_length=10,
        choices=OnFailure.choices,
        default=OnFailure.CONTINUE,
    )
    #: By event ("success", "failure", "completion"): the columns of the task to insert, which
    #: were checked when the batch was made, and the key of the task once it was inserted.
    callbacks = models.JSONField(default=dict, blank=True)
    #: Since when it has had members that may not have ended; None before the first one and
    #: when all have ended. What the sweep looks at.
    open_since = models.DateTimeField(null=True, blank=True, editable=False)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    paused_at = models.DateTimeField(_("paused at"), null=True, blank=True)
    paused_by = weak_key(USER, verbose_name=_("paused by"), db_index=False)
    paused_reason = models.CharField(_("reason of the pause"), max_length=300, blank=True)
    #: Failures before this time hold the rest back no more.
    resumed_at = models.DateTimeField(_("resumed at"), null=True, blank=True)
    #: A canceled batch takes no more members.
    canceled_at = models.DateTimeField(_("canceled at"), null=True, blank=True)
    #: What pruned members counted for, by status.
    pruned = models.JSONField(default=dict, blank=True)

    objects = HomeManager()

    class Meta:
        verbose_name = _("batch")
        verbose_name_plural = _("batches")
        ordering = ("-created_at",)
        default_permissions = ("view",)
        indexes = (
            # the sweep: batches that may have ended
            PartialIndex(
                fields=["open_since", "id"],
                name="taskcontrol_batch_open",
                condition=Q(open_since__isnull=False),
            ),
            # the pass: batches that a failure holds back, and those that a person does
            PartialIndex(
                fields=["on_failure", "open_since"],
                name="taskcontrol_batch_hold",
                condition=Q(on_failure="hold", open_since__isnull=False),
            ),
            PartialIndex(
                fields=["paused_at"],
                name="taskcontrol_batch_paused",
                condition=Q(paused_at__isnull=False),
            ),
            # admin: the newest first
            models.Index(fields=["-created_at", "-id"], name="taskcontrol_batch_created"),
        )

    def __str__(self) -> str:
        return self.title or self.id


class Schedule(models.Model):
    """What is kept beside a periodic task of django-celery-beat that enqueues.

    What runs and when stands there, to be edited; here stand the time of the next run,
    which decides, and what became of the last ones.
    """

    class OnMissed(models.TextChoices):
        """What becomes of runs whose time passed while nothing could run."""

        SKIP = "skip", _("none of them")
        ONCE = "once", _("the last one")
        ALL = "all", _("each, one after the other")

    #: The key of the PeriodicTask; not a foreign key, since its app need not be installed.
    periodic_id = models.PositiveIntegerField(unique=True, editable=False)
    name = models.CharField(_("name"), max_length=200)
    method = models.CharField(_("method"), max_length=255, blank=True)
    enabled = models.BooleanField(_("enabled"), default=True, editable=False)
    #: When it runs, as last read: another text sets the next run anew.
    timetable = models.CharField(_("when"), max_length=700, blank=True, editable=False)
    next_run_at = models.DateTimeField(_("next run"), null=True, blank=True, editable=False)
    on_missed = models.CharField(
        _("runs missed while nothing could run"),
        max_length=4,
        choices=OnMissed.choices,
        default=OnMissed.ONCE,
    )
    scheduled_against = models.CharField(_("against"), max_length=140, blank=True)
    run_as = weak_key(USER, verbose_name=_("runs as"), db_index=False)
    #: What ``run_as`` was given for; anything else does not run as that user.
    run_as_for = models.CharField(max_length=64, blank=True, editable=False)
    last_run_at = models.DateTimeField(_("last run"), null=True, blank=True, editable=False)
    last_task = weak_key(
        TaskLog, verbose_name=_("last task"), db_index=False, editable=False
    )
    run_count = models.PositiveIntegerField(_("runs"), default=0, editable=False)
    skipped_count = models.PositiveIntegerField(_("skipped"), default=0, editable=False)
    skipped_at = models.DateTimeField(
        _("last skipped"), null=True, blank=True, editable=False
    )
    #: Which runs were skipped last and why, as sentences, the newest first.
    skips = models.JSONField(_("skipped runs"), default=list, blank=True, editable=False)
    #: Why it cannot run; empty when it can.
    error = models.CharField(_("error"), max_length=500, blank=True, editable=False)
    #: What code last declared, so that a person's edit is told from an old default.
    declared = models.JSONField(null=True, blank=True, editable=False)

    objects = HomeManager()

    class Meta:
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")
        ordering = ("name",)
        default_permissions = ("view",)
        permissions = (
            ("manage_schedule", "Can edit, run, skip and switch schedules, as any user"),
        )
        # what is due, asked every second
        indexes = (models.Index(fields=["next_run_at"], name="taskcontrol_schedule_next"),)

    def __str__(self) -> str:
        return self.name

    @property
    def skipped_why(self) -> str:
        """Which run was skipped last, and why; empty when none was."""
        return str(self.skips[0]) if self.skips else ""


class Rollup(models.Model):
    """What ended in one span of time, of one type in one queue, of a queue, or of all."""

    start = models.DateTimeField()
    #: How long the span is: short at first, longer when it is older.
    minutes = models.PositiveSmallIntegerField(default=1)
    #: Empty in the row of a queue, as the queue too is in that of all; see ``rollup.py``.
    method = ExactCharField(max_length=255, blank=True)
    queue = ExactCharField(max_length=100, blank=True)
    finished = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    canceled = models.PositiveIntegerField(default=0)
    #: How many waited and ran for how long: counts by the bin of ``histograms.py``.
    waits = models.JSONField(default=dict)
    runs = models.JSONField(default=dict)
    #: Of all runs together.
    run_seconds = models.FloatField(default=0.0)

    objects = HomeManager()

    class Meta:
        default_permissions = ()
        constraints = (
            # one row for each; the charts, and the numbers of one type
            models.UniqueConstraint(
                fields=["method", "queue", "start"], name="taskcontrol_rollup_once"
            ),
        )
        # what is to be merged or deleted; all types of the last hours
        indexes = (
            models.Index(fields=["minutes", "start"], name="taskcontrol_rollup_age"),
        )

    def __str__(self) -> str:
        return f"{self.start} {self.method}"


class QueueState(models.Model):
    """What a person said of one queue."""

    name = models.CharField(_("queue"), max_length=100, primary_key=True)
    paused_at = models.DateTimeField(_("paused at"), null=True, blank=True)
    paused_by = weak_key(USER, verbose_name=_("paused by"))
    paused_until = models.DateTimeField(_("paused until"), null=True, blank=True)
    paused_reason = models.CharField(_("reason"), max_length=300, blank=True)

    objects = HomeManager()

    class Meta:
        verbose_name = _("queue")
        verbose_name_plural = _("queues")
        default_permissions = ("view",)
        permissions = (("control_queue", "Can pause, resume and purge queues"),)

    def __str__(self) -> str:
        return self.name


class DispatcherState(models.Model):
    """The one row of the dispatcher: suspended or not, and its last signs of life."""

    THE_ONE = 1

    #: Not a generated key: MariaDB takes none into a CHECK constraint.
    id = models.PositiveSmallIntegerField(primary_key=True, default=THE_ONE, editable=False)
    #: Eight hex digits that keep the Celery ids of two sites on one broker apart.
    site = models.CharField(max_length=8)
    suspended = models.BooleanField(_("suspended"), default=False)
    suspended_by = weak_key(USER, verbose_name=_("by"))
    suspended_at = models.DateTimeField(_("since"), null=True, blank=True)
    suspended_reason = models.CharField(_("reason"), max_length=300, blank=True)
    last_pass_at = models.DateTimeField(_("last pass"), null=True, blank=True)
    last_promoted_at = models.DateTimeField(_("last promotion"), null=True, blank=True)
    beat_seen_at = models.DateTimeField(_("beat last seen"), null=True, blank=True)
    learned_at = models.DateTimeField(null=True, blank=True, editable=False)
    accounted_at = models.DateTimeField(null=True, blank=True, editable=False)
    #: Before it every end of a task is counted: see ``rollup.py``.
    rolled_until = models.DateTimeField(null=True, blank=True, editable=False)
    #: Why the last message was not taken by the broker; empty when it was.
    broker_error = models.CharField(max_length=300, blank=True)
    #: What holds waiting tasks back since when, as the last pass saw it: microseconds since
    #: 1970 by "scope:key". Becomes a WaitInterval when it is over.
    closed = models.JSONField(default=dict, editable=False)
    #: What was sent lately of the types with a rate: see ``rates.py``.
    sent = models.JSONField(default=dict, editable=False)

    objects = HomeManager()

    class Meta:
        verbose_name = _("dispatcher")
        verbose_name_plural = _("dispatcher")
        default_permissions = ("view",)
        permissions = (("control_dispatcher", "Can suspend and resume the dispatcher"),)
        constraints = (
            models.CheckConstraint(
                name="taskcontrol_dispatcher_only_one", condition=Q(id=1)
            ),
        )

    def __str__(self) -> str:
        return "the dispatcher"


def next_rev() -> Any:
    """Return the expression that every UPDATE of a task writes to ``rev``."""
    return F("rev") + 1


def seconds(value: float) -> timedelta:
    """Return ``value`` seconds as the database arithmetic takes them."""
    return timedelta(seconds=value)
