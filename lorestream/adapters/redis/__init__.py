"""The answer cache, the watermarks and the rate limits on Redis."""
