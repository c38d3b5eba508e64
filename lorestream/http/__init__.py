"""The HTTP edge that all services share: bodies, errors, operations, their documentation."""
