"""Simulated load for `lorestream simulate`: many game servers and thousands of agents, open loop.

    plan.py         which event occurs when, on which server; batches, as the Luanti mod makes them
    game_life.py    the content of the events and of the searches
    simulator.py    runs a plan: one queue and one sender for each game server
    game_server.py  one game server: sends its batches in order, with retries
    readers.py      searches at a fixed rate; waits until everything is indexed
    ledger.py       counts the results, and writes accepted events to a file
    report.py       latency histograms and the figures of a run

A typical call:

    plan = Plan(servers=2, agents=10, rate=100.0, seconds=5.0, seed=1)
    clients = [httpx2.AsyncClient() for _ in range(plan.servers)]
    simulator = Simulator(plan, ["http://127.0.0.1:8081"], clients)
    await simulator.run()
    print(simulator.results.events.accepted, "of", plan.events)
"""
