"""Integrations with other frameworks, each tested with the real packages in an environment of its own."""
