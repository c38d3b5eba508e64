"""The long run: the distributed shape under load, while its parts are killed and cut off from each other.

long_run.py    `python -m tests.soak.long_run`: runs it and writes a JSON report
deployment.py  the cluster, with a link that can be cut between each service and each engine
links.py       the process of these links: TCP proxies
load.py        the producers: events, repeated events, deletions, erasures; and the canary
faults.py      the faults: kills, partitions, a full disk, another password, a clock that jumps
clock/         makes the clock of a service jump
figures.py     the figures of a report as a table for docs/reliability.md
truth.py       what the store must hold, by a fold of the log, and what it holds; without the product's code
"""
