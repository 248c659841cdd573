"""Task types: what code declares, what a person changed, and what holds for a method."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.db import IntegrityError, connections, transaction

from . import actions, lockwaits
from .bell import request_dispatch
from .brief import brief
from .conf import conf
from .exceptions import NotPermitted
from .models import TaskType
from .options import DECLARABLE
from .registry import Declaration, declarations, declare_type

#: Seconds after which a process sees a change of a type that another process made.
CACHE_SECONDS = 5.0

#: Seconds to wait for somebody who inserts the same type: he may be long about his commit.
SAME_MOMENT = 0.05

#: Who may change types.
CHANGE = "taskcontrol.change_tasktype"


class _Memory:
    """The types as they were read last, for some seconds.

    It has no lock: who waits for the table, for as long as somebody migrates it, keeps no
    other thread waiting, nor for ever a child that is forked meanwhile. Threads that find it
    too old at the same moment each read the table.
    """

    def __init__(self) -> None:
        self._kept: tuple[Any, dict[str, TaskType], float] = (None, {}, 0.0)
        self._turn = object()

    def forget(self) -> None:
        """Read again at the next use; who is reading now may have read what was before."""
        self._turn = object()

    def types(self) -> dict[str, TaskType]:
        """Return the types by method, the same dict until they are read again."""
        turn, (kept_of, types, read_at) = self._turn, self._kept
        if kept_of is not turn or time.monotonic() - read_at > CACHE_SECONDS:
            types = {one.method: one for one in TaskType.objects.all()}
            self._kept = (turn, types, time.monotonic())
        return types


class _Changing(threading.local):
    """The transaction in which this thread has changed types, and the types as it sees them."""

    whole: Any = None
    innermost: Any = None

    def __init__(self) -> None:
        self.memory = _Memory()


_memory = _Memory()
_changing = _Changing()


def defaults_of(method: str) -> dict[str, Any]:
    """Return the values of a method's type that are set: code's, overlaid by the database's.

    Reads the whole small table at most every few seconds, so that enqueue stays one INSERT.
    """
    declared = declarations.get(method)
    values = dict(declared.values) if declared else {}
    stored = known_types().get(method)
    if stored is not None:
        values |= {name: getattr(stored, name) for name in DECLARABLE}
    return {
        name: value for name, value in values.items() if value is not None and value != ""
    }


def known_types() -> dict[str, TaskType]:
    """Return the stored types by method, the same dict until they are read again.

    What a transaction reads that has changed types is for itself alone: after a rollback it
    would hold for all threads of the process.
    """
    if _changing.whole is None:
        return _memory.types()
    connection: Any = connections[conf.DATABASE]
    blocks = connection.atomic_blocks
    if blocks[:1] != [_changing.whole]:  # it is over, or this is the second connection
        return _memory.types()
    if blocks[-1] is not _changing.innermost:  # a savepoint may have been rolled back
        _changing.innermost = blocks[-1]
        _changing.memory.forget()
    return _changing.memory.types()


def forget(using: str | None = None, **_signal: Any) -> None:
    """Read the types again at the next use: this process changed one, ``using`` this alias."""
    _memory.forget()
    _changing.memory.forget()
    connection: Any = connections[using or conf.DATABASE]
    blocks = connection.atomic_blocks
    if using and blocks:
        _changing.whole, _changing.innermost = blocks[0], blocks[-1]
        transaction.on_commit(_memory.forget, using=using)


def ensure(methods: Iterable[str]) -> None:
    """Insert the types that are missing, with what code declares of them.

    A method that this process has not imported gets a type that nobody confirmed yet:
    the dispatcher takes its limit as 1, since its code may declare that. One that somebody
    else is inserting may still be missing after that.
    """
    wanted = set(methods)
    known = TaskType.objects.filter(method__in=wanted).values_list("method", flat=True)
    for method in sorted(wanted - set(known)):
        try:
            with brief(), lockwaits.at_most(SAME_MOMENT, conf.DATABASE):
                _insert(method, declarations.get(method))
        except (IntegrityError, lockwaits.LockWaitOver):
            continue  # another process met the method at the same moment


def confirm(method: str) -> None:
    """Write what code declares of a method, if nobody did who had imported the code.

    Called by a worker's child before the body, when the code is imported there; importing
    it in a dispatch pass would run user code there.
    """
    known = known_types().get(method)
    if known is not None and known.declared is not None:
        return
    one = TaskType.objects.filter(method=method, declared__isnull=True).first()
    if one is not None:
        _update(one, declarations.get(method) or Declaration(method))
        request_dispatch()


def declare_actions() -> None:
    """Declare the types of the marked methods of all installed models."""
    for model in apps.get_models():
        for action, options in actions.marked(model):
            key = actions.key_of(model, action)
            declare_type(key, **options)
            actions.declared[key] = (model, action)


def sync_declared(**_signal: Any) -> None:
    """Write what code declares, keeping every value that a person changed since."""
    stored = {one.method: one for one in TaskType.objects.filter(method__in=declarations)}
    for declaration in declarations.values():
        one = stored.get(declaration.method)
        if one is None:
            ensure([declaration.method])
        else:
            _update(one, declaration)


def changed_by_hand(one: TaskType) -> dict[str, Any]:
    """Return what code declares of the values that a person changed."""
    if not one.is_standard:
        return {}
    says = {name: declared_of(one, name) for name in DECLARABLE}
    return {name: said for name, said in sorted(says.items()) if getattr(one, name) != said}


def declared_of(one: TaskType, name: str) -> Any:
    """Return what code declared last of one value, or else its default."""
    return (one.declared or {}).get(name, TaskType.default_of(name))


def reset_to_declared(one: TaskType, *, user: Any = None) -> None:
    """Drop what a person changed: the type says again what code declares.

    A process that has not imported the code goes by what was declared last. ``user`` needs
    the permission ``change_tasktype``, else NotPermitted.
    """
    _require(user, f"reset the type {one}")
    declaration = declarations.get(one.method) or Declaration(
        one.method, one.declared or {}
    )
    for name in DECLARABLE:
        setattr(one, name, declaration.values.get(name, TaskType.default_of(name)))
    one.declared = declaration.values
    one.save()
    request_dispatch()


def reset_one(one: TaskType, name: str, *, user: Any = None) -> bool:
    """Drop what a person changed of one value; return False when it is as code says."""
    _require(user, f"reset {name} of the type {one}")
    if name not in changed_by_hand(one):
        return False
    setattr(one, name, declared_of(one, name))
    one.save(update_fields=[name])
    request_dispatch()
    return True


def _require(user: Any, verb: str) -> None:
    if user is not None and not user.has_perm(CHANGE):
        raise NotPermitted(user, CHANGE, verb)


def _insert(method: str, declaration: Declaration | None) -> None:
    values = declaration.values if declaration else {}
    TaskType(
        method=method,
        is_standard=declaration is not None,
        declared=values if declaration else None,
        **values,
    ).save(force_insert=True)


def _update(one: TaskType, declaration: Declaration) -> None:
    changed: dict[str, Any] = {}
    before = one.declared or {}
    if one.declared != declaration.values:
        changed["declared"] = declaration.values
    if not one.is_standard and declaration.method in declarations:
        changed["is_standard"] = True
    for name in declaration.values.keys() | before.keys() if changed else ():
        default = TaskType.default_of(name)
        untouched = getattr(one, name) == before.get(name, default)
        if untouched:
            changed[name] = declaration.values.get(name, default)
    for name, value in changed.items():
        setattr(one, name, value)
    if changed:
        one.save(update_fields=list(changed))
