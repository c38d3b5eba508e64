"""Verbs that set up: model prepare, mod install, config show."""
