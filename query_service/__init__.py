"""The query service: questions to the memories, over HTTP."""
