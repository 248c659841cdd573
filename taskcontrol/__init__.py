"""A durable ledger and a dispatcher in front of Celery, for Django."""
