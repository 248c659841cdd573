"""Measures taskcontrol against plain Celery: ``python -m bench``."""
