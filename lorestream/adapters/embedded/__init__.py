"""Snapshot and restore of the embedded shape: SQLite log, Edge store, player key."""
