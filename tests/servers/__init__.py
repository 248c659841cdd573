"""The real servers and processes that tests start, break and stop."""
