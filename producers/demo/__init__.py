"""The village of `lorestream demo`."""
