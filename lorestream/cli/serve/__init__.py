"""Verbs that serve: up, gateway, worker, query."""
