"""Who calls, what a key may do, and how often."""
