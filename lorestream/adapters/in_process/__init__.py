"""Ports kept in the memory of one process: answer cache, watermarks, erased subjects."""
