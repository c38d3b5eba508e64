"""`lorestream doctor`: checks of this machine, the servers, and a running Lorestream.

    report.py   runs all checks, prints them, waits for the server
    checks.py   single checks: Python, disk, permissions, limits, ports, model, processor
    machine.py  those of one Lorestream, made by itself while it runs
    servers.py  Kafka, Qdrant, Redis of the distributed shape

Each check returns a value; only a failed one makes the whole report unhealthy:

    check = checks.data_directory(Path("data"), min_free_bytes=200 * 2**20)
    if check.verdict is Verdict.FAILED:
        print(check.evidence, "->", check.fix)
"""
