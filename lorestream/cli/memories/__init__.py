"""Verbs on memories: put, search, recent, agents, tail, erase, demo."""
