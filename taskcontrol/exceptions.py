"""Every error that taskcontrol raises, each a class that writes its own sentence."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Any


class TaskControlError(Exception):
    """The base of all our errors; never raised itself."""


class InvalidCall(TaskControlError, ValueError):
    """An argument of a public call cannot be accepted; nothing was stored."""


class MethodNotCallable(InvalidCall):
    """The method of a task cannot be turned into something that a worker can run."""

    def __init__(self, method: Any, why: str) -> None:
        super().__init__(f"Cannot enqueue {method!r}: {why}")
        self.method, self.why = method, why


class MethodNotAllowed(TaskControlError, PermissionError):
    """A dotted path was refused because nothing allows it to run."""

    def __init__(self, method: str) -> None:
        super().__init__(
            f"{method!r} may not run: decorate it with @taskcontrol.task, put its "
            "module into an installed app, or add the module to "
            'TASKCONTROL["ALLOWED_MODULES"].'
        )
        self.method = method


class ActionNotAllowed(MethodNotAllowed):
    """A method of a model was refused because it is not meant to be an action."""

    def __init__(self, key: str, name: str) -> None:
        TaskControlError.__init__(
            self,
            f"{key!r} may not run as an action: decorate the method {name!r} with "
            '@taskcontrol.document_action, or list the action in TASKCONTROL["DOCUMENT_ACTIONS"].',
        )
        self.method = key


class NotWhitelisted(MethodNotAllowed):
    """A safe call was refused because nobody has opened the function to such calls."""

    def __init__(self, method: str) -> None:
        TaskControlError.__init__(
            self,
            f"{method!r} may not be called safely: there is no function of this name that "
            "is decorated with @taskcontrol.whitelist.",
        )
        self.method = method


class MethodNotFound(TaskControlError, ImportError):
    """A dotted path leads to nothing in this process, perhaps to code not deployed."""

    def __init__(self, method: str, why: str) -> None:
        super().__init__(
            f"Unknown method {method!r}: {why}. If it is new code, deploy it to this "
            "worker and retry the task."
        )
        self.method, self.why = method, why


class ArgumentsNotSerializable(InvalidCall):
    """An argument cannot be stored so that it comes back with its type."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"Argument {path} cannot be stored: {why}. Pass plain data "
            "(None, bool, int, float, str, bytes, list, tuple, set, dict with str "
            "keys, datetime, date, time, timedelta, Decimal, UUID), or a primary "
            "key and read the object in the task."
        )
        self.path = path


class ArgumentsTooLarge(InvalidCall):
    """The arguments of one task are over the size limit."""

    def __init__(self, method: str, size: int, limit: int) -> None:
        super().__init__(
            f"The arguments of {method!r} take {size:,} bytes, over the limit of "
            f'{limit:,} (TASKCONTROL["ARGUMENTS_MAX_BYTES"]). Store the data '
            "elsewhere and pass its key."
        )
        self.size, self.limit = size, limit


class UnknownQueue(InvalidCall):
    """A queue was named that no setting declares."""

    def __init__(self, queue: str, known: Iterable[str]) -> None:
        super().__init__(
            f'Unknown queue {queue!r}; TASKCONTROL["QUEUES"] has: '
            f"{', '.join(sorted(known))}."
        )
        self.queue = queue


class InvalidCron(InvalidCall):
    """A cron expression cannot be read, or names a time that never comes."""

    def __init__(self, expression: object, why: str) -> None:
        super().__init__(f"The cron expression {expression!r} is not valid: {why}.")
        self.expression = expression


class QueueOverloaded(TaskControlError):
    """So many tasks wait in a queue that it takes no more; nothing was stored."""

    def __init__(self, queue: str, waiting: int, adding: int, limit: int) -> None:
        many = f"{waiting:,}" if waiting <= limit else f"over {limit:,}"
        wait = "task waits" if waiting == 1 else "tasks wait"
        super().__init__(
            f"The queue {queue!r} takes no more: {many} {wait} there, {adding:,} "
            f"{'was' if adding == 1 else 'were'} to be added, and its limit is {limit:,} "
            "(max_queued_jobs). Wait until it is shorter, start more workers, or raise the "
            "limit."
        )
        self.queue, self.waiting, self.adding, self.limit = queue, waiting, adding, limit


class InvalidTransition(InvalidCall):
    """A task cannot make this move from the status it is in."""

    def __init__(
        self, task_id: int, verb: str, status: str, allowed: Iterable[str]
    ) -> None:
        super().__init__(
            f"Task {task_id} is {status}; only {' or '.join(allowed)} tasks can be {verb}."
        )
        self.task_id, self.status = task_id, status


class KeyTaken(InvalidTransition):
    """A task cannot run again because another one has taken its deduplication key."""

    def __init__(self, task_id: int, key: str, owner: int, status: str) -> None:
        TaskControlError.__init__(
            self,
            f"Task {task_id} cannot be retried: its key {key!r} belongs to task {owner} now, "
            f"which is {status} and has not ended. Retry it when that has ended, or cancel "
            "that one first.",
        )
        self.task_id, self.key, self.owner, self.status = task_id, key, owner, status


class KeyBusy(TaskControlError):
    """A deduplication key was not free to look at in time; nothing was stored."""

    def __init__(self, keys: Collection[str], seconds: float) -> None:
        names = ", ".join(repr(key) for key in list(keys)[:3])
        more = f" or {len(keys) - 3} more" if len(keys) > 3 else ""
        super().__init__(
            f"Another transaction enqueues under the key {names}{more} and has not ended "
            f'within {seconds:g} s (TASKCONTROL["KEY_WAIT"]). Enqueue at the end of long '
            "transactions, or there with enqueue_after_commit=False."
        )
        self.keys = list(keys)


class TaskNotFound(TaskControlError, LookupError):
    """No task stands under this name."""

    def __init__(self, key: object) -> None:
        super().__init__(f"There is no task {key!r}; it may have been pruned.")
        self.key = key


class BatchClosed(InvalidCall):
    """A batch takes no more tasks."""

    def __init__(self, batch_id: str, why: str) -> None:
        super().__init__(f"Batch {batch_id!r} takes no more tasks: {why}.")
        self.batch_id = batch_id


class BatchNotFound(TaskControlError, LookupError):
    """No batch stands under this id."""

    def __init__(self, batch_id: object) -> None:
        super().__init__(
            f"There is no batch {batch_id!r}. A batch is there from its first task on, or "
            "from create_batch()."
        )
        self.batch_id = batch_id


class BatchExists(InvalidCall):
    """A batch was to be made under an id that another one has."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(
            f"There is a batch {batch_id!r} already. Make it before its first task is "
            "enqueued, or leave the id out to get a new one."
        )
        self.batch_id = batch_id


class ScheduleNotFound(TaskControlError, LookupError):
    """No schedule stands under this name."""

    def __init__(self, name: object) -> None:
        super().__init__(
            f"There is no schedule {name!r}; `manage.py taskcontrol schedules` lists them."
        )
        self.name = name


class NotPermitted(TaskControlError, PermissionError):
    """The user lacks the permission for what was asked."""

    def __init__(self, user: object, permission: str, verb: str) -> None:
        super().__init__(
            f"{user or 'An anonymous user'} may not {verb}: the permission "
            f"{permission!r} is missing."
        )
        self.permission = permission


class CreatorGone(TaskControlError, PermissionError):
    """A safe call was refused because the user whose it is has no rights any more."""

    def __init__(self, method: str, who: str, why: str) -> None:
        super().__init__(f"{method} is not called: its creator {who} {why}.")


class TaskUserGone(CreatorGone):
    """The user as whom a task runs was deleted, and its body asked for him."""

    def __init__(self, task_id: int, user_id: Any) -> None:
        super(CreatorGone, self).__init__(
            f"Task {task_id} runs as user {user_id}, who was deleted meanwhile. What nobody "
            "owns is enqueued with created_by=None; this task can be canceled."
        )


class StandardTypeProtected(TaskControlError, PermissionError):
    """A standard task type cannot be deleted or renamed here."""

    def __init__(self, methods: Iterable[str]) -> None:
        super().__init__(
            f"Standard task types cannot be deleted or renamed: "
            f"{', '.join(sorted(methods))}. They are declared in code; remove the "
            'declaration, or set TASKCONTROL["PROTECT_STANDARD_TYPES"] to False.'
        )


class BrokerUnavailable(TaskControlError):
    """The broker did not take a message in time."""

    def __init__(self, why: object) -> None:
        super().__init__(
            f"The broker cannot be reached ({why}). Tasks wait in the database and "
            "start when it is back; check CELERY_BROKER_URL."
        )


class TaskCanceled(BaseException):
    """Raised inside a running body when its task was canceled.

    A BaseException, so that ``except Exception`` in a task does not swallow it.
    """


class Retry(TaskControlError):
    """Raised by a task that wants another try: again at once, in place, without ``delay``.

    With ``delay`` (seconds or a timedelta, up to ten years) it is a retry, counted under
    ``max_retries``. Raises InvalidCall for another delay.
    """

    def __init__(self, delay: float | timedelta | None = None) -> None:
        given: object = delay
        if isinstance(delay, timedelta):
            delay = delay.total_seconds()
        is_number = isinstance(delay, int | float) and not isinstance(delay, bool)
        if delay is not None and not (is_number and 0 <= delay <= 10 * 365 * 86400):
            raise InvalidCall(
                "The delay of a Retry must be seconds or a timedelta, not negative and at "
                f"most ten years: {given!r}. Without a delay the body runs again in place."
            )
        super().__init__(
            "The task asked for another attempt"
            + ("." if delay is None else f" in {delay:g} s.")
        )
        self.delay = delay


class Discard(TaskControlError):
    """Raised by a task that is not worth another attempt."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "The task discarded itself.")
        self.reason = reason


class DocumentNotFound(Discard):
    """The document of an action is not there when the action is to run.

    Another attempt would not find it either, so none is made.
    """

    def __init__(self, label: str, name: str, database: str) -> None:
        super().__init__(
            f"There is no {label} {name} in the database {database!r}; it was deleted after "
            "the task was enqueued, or never stored."
        )


class DocumentBusy(InvalidCall):
    """An action is on its way to a document already, and runs once at a time there."""

    def __init__(self, key: str, name: str, task_id: int | None, status: str) -> None:
        first = f"task {task_id} does it already and is {status}"
        if task_id is None:
            first = "another task of the same call does it"
        super().__init__(
            f"{key} of {name} was not enqueued: {first}. Enqueue it again when that has "
            "ended."
        )
        self.task_id = task_id


class LockTaken(TaskControlError):
    """A lock is held by somebody else; the block did not begin."""

    def __init__(self, key: str, holder: str, task_id: int | None = None) -> None:
        super().__init__(
            f"The lock {key!r} is held by {holder}. Try again later (wait=, max_retries=), or "
            "catch LockTaken to leave the work to that one."
        )
        self.key, self.task_id = key, task_id


class LockLost(TaskControlError):
    """A lock was not extended in time, so that somebody else may hold it."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The lock {key!r} was lost: this process did not extend it within its ttl, and "
            "somebody else may have done the same work meanwhile. Look at what was written; "
            "write it inside held.fenced() to be sure, or choose a longer ttl."
        )
        self.key = key


class WithinTransaction(TaskControlError, RuntimeError):
    """A block that is committed by itself stands in a transaction of the body."""

    def __init__(self, what: str, task_id: int) -> None:
        super().__init__(
            f"{what}() of task {task_id} stands inside another transaction, such as "
            "transaction.atomic(), which could still undo what the block has committed. Leave "
            "that one out, since the block is a transaction itself, or put it into the block; "
            "or make the whole body one with atomic=True."
        )


class TransactionLeftOpen(TaskControlError):
    """A body came to its end within a transaction that nobody would ever have committed."""

    def __init__(self, database: str) -> None:
        super().__init__(
            f"The body has left a transaction open in the database {database!r}, so what it "
            "wrote there since has been rolled back. Commit it before the body ends: leave "
            "each transaction.atomic() that was entered, or put the work into 'with "
            "transaction.atomic():'; and let each BEGIN, and each set_autocommit(False), be "
            "followed by a COMMIT."
        )
        self.database = database


class NoReferee(TaskControlError):
    """The database of the tasks has no triggers that the referee could be."""

    def __init__(self, database: str) -> None:
        super().__init__(
            f"The referee consists of triggers of PostgreSQL, and the tasks are in {database}. "
            "Without it the conditions of each move and the constraints of the table still hold."
        )


class TableBusy(TaskControlError):
    """Triggers could not be changed, because others were writing to the table all the time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"Somebody has written to the tasks for {seconds:g} s without a commit, and who "
            "changes their triggers makes all others wait. Nothing was changed; try again, or "
            "look for a long transaction in pg_stat_activity."
        )


class WorkerLost(TaskControlError):
    """The process that ran a task is gone."""

    def __init__(self, where: str, times: int, limit: int) -> None:
        super().__init__(
            f"The process that ran this task was lost ({where}), {times} "
            f"{'time' if times == 1 else 'times'} by now; a task runs again after at most "
            f"{limit}. Likely causes: out of memory, a crash in C code, a killed worker."
        )


class OutOfMemory(WorkerLost):
    """The kernel has killed the process that ran a task, because memory was short."""

    def __init__(self, where: str, times: int, limit: int) -> None:
        TaskControlError.__init__(
            self,
            f"The kernel killed the process that ran this task because memory was short "
            f"({where}); it was lost {times} {'time' if times == 1 else 'times'} by now, and a "
            f"task runs again after at most {limit}. Let it hold less at once, let fewer run "
            "beside it, or give its worker more memory.",
        )


class WorkerLeft(TaskControlError):
    """The worker of a task that must not begin twice has left before its end."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The worker of this task left before an end of its body was written ({why}), and "
            'the task must not begin a second time by itself (on_lost="fail"). Look at what it '
            "has done; a retry by hand runs it again."
        )


class TimedOut(TaskControlError):
    """A task ran longer than its timeout."""

    def __init__(self, timeout: float) -> None:
        super().__init__(
            f"The task ran longer than its timeout of {timeout:g} s. Raise timeout=, "
            "use the queue 'long', or split the work."
        )
