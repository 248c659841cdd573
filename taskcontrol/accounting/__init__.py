"""Accounts for every task that was sent: rows against messages against what workers hold."""
