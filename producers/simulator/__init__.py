"""The simulated load: many game servers and thousands of agents, open loop."""
