"""One file for each contender: a task with the common body, and how it is asked for.

``enqueue(asked_at)`` asks for one; ``enqueue_many(times)``, where there is such a thing, for many
in the quickest way that the contender offers. ``bench/peers.toml`` says how each is run.
"""
