"""Verbs on what an agent has beside its memories: state get|put|patch|versions|rollback, records, summary.

    commands.py  the verbs and their options
    calls.py     the work: calls the server with lorestream.client.MemoryClient, prints the answers

A typical call:

    $ lorestream state patch character npc:smith '{"goals": {"iron": 10}}' --if-version 3
    4
"""
