"""An open benchmark for the memory of game agents: `python -m tests.retrieval.bench --help`.

command.py          the command line
corpus.py           events, and questions with the ids of the events that answer them
kinds/              generators: one grammar for each kind of text
conversations.py    reads dialogues in a public form
methods.py          the search methods that are compared
world.py            a corpus in a running Lorestream: real gateway, log, worker, Qdrant Edge and model
cached_embedder.py  keeps the vectors in a file, so that a second run takes seconds
measure.py          asks every question with every method
metrics.py          recall, MRR, NDCG
report.py           tables
"""
