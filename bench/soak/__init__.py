"""A site at work for half an hour: memory, size and latency over time; ``python -m bench.soak``."""
