"""`make bench-peers`: Lorestream beside what people would use instead, in one run.

    __main__.py       the rounds, the table, bench-peers.json
    environments.py   an environment for each peer, from its packages
    program.py        runs in a peer's environment: takes in events, answers questions, says what it cost
    contenders.py     one interface to Lorestream and to the programs of the peers
    page.py           docs/benchmarks.md and its plot, from the JSON file

All have the same texts, the same weights (all-MiniLM-L6-v2) and one thread. What counts is CPU time: of the process that
works, with its children, read from the kernel before and after. The program that asks is not counted.
"""
