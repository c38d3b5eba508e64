"""Where events come in: the gateway in front of the log, the simulator, the Luanti mod."""
