"""Lorestream: memory for game agents as an event stream."""

__version__ = "0.1.0"
