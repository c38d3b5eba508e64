"""How long a method waits until a read can see what it wrote."""

WAIT_S = 5.0
