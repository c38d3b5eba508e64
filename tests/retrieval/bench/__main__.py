"""python -m tests.retrieval.bench: the quality of the search methods, as a table."""

from tests.retrieval.bench.command import main

main()
