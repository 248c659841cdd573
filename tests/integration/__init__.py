"""Tests with real brokers, workers and servers."""
