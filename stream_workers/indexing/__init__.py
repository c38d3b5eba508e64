"""From the log to findable memories: read, prepare, apply, invalidate caches, commit."""
