"""Emptying the tables under workers that go on."""

from __future__ import annotations

from django.apps import apps
from django.core.management.sql import emit_post_migrate_signal
from django.db import connections, transaction
from django.db.models import Q

from taskcontrol.models import DispatcherState, TaskLog, Worker

#: Apps whose rows tests write.
APPS = (
    "admin",
    "auth",
    "sessions",
    "taskcontrol",
    "tests",
    "library",
    "django_celery_beat",
    "django_celery_results",
)
#: Made by migrate and not by tests.
KEPT = {"auth.Permission", "taskcontrol.DispatcherState", "taskcontrol.Worker"}


def empty_tables(using: str = "default") -> None:
    """Delete what tests wrote, by DELETE: a TRUNCATE would fight with a worker's locks.

    The rows of live workers stay, and so does the dispatcher's, in its first state.
    """
    with transaction.atomic(using=using):
        for model in _written():
            rows = model._base_manager.using(using).all()
            rows._raw_delete(using)
        gone = Q(left_at__isnull=False) | Q(lost_at__isnull=False)
        Worker._base_manager.using(using).filter(gone)._raw_delete(using)
        DispatcherState.objects.using(using).update(
            suspended=False,
            suspended_by=None,
            suspended_at=None,
            suspended_reason="",
            learned_at=None,
        )
    # Writes the declared types again, as the flush of other tests does.
    emit_post_migrate_signal(verbosity=0, interactive=False, db=using)


def _written():
    models = [model for app in APPS for model in _models_of(app)]
    # Tables that point to others first; ours have no constraints between them.
    return sorted(models, key=lambda model: bool(model._meta.related_objects))


def _models_of(app: str):
    return [
        model
        for model in apps.get_app_config(app).get_models(include_auto_created=True)
        if model._meta.label not in KEPT and model._meta.managed
    ]


def bodies_left(using: str = "default") -> bool:
    """Return whether a worker still holds a task of the test that ended."""
    connections[using].close_if_unusable_or_obsolete()
    return bool(TaskLog.objects.using(using).filter(occupies=True).exists())
