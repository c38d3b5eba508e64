"""The event log and the erasure ledger on SQLite."""
