"""Verbs for operators: dlq, replay, alias, drop, cache, export, import, snapshot, restore."""
