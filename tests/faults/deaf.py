"""Makes a worker deaf: given to ``celery worker --include``, it loses every ring of the bell."""

from __future__ import annotations

from taskcontrol import bell

bell._Pipe.write = lambda _self: None  # type: ignore[method-assign,assignment]
