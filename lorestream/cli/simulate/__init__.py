"""`lorestream simulate`: the load of many game servers. The simulator itself is producers.simulator.

    command.py  the options
    load.py     runs a plan, shows progress, prints the report

A typical call:

    plan = Plan(servers=10, agents=1000, rate=100.0, seconds=30.0, seed=1, ...)
    report = load.run(plan, load.RunOptions(urls=["http://127.0.0.1:8081"], ...))
    print(report.events.accepted, report.latency_ms["event"]["p99"])
"""
