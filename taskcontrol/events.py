"""The Django signals that taskcontrol sends."""

from __future__ import annotations

from django.dispatch import Signal

#: Sent with ``sender=TaskLog, task, old, new, message, error`` after a change of status
#: was committed, in the order of ``task.rev``, at least once. Never sent from a dispatch
#: pass or from a worker's main process. Receivers are isolated: what they raise is logged.
task_status_changed = Signal()
