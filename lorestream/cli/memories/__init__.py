"""Verbs on memories: put, supersede, search, recent, relations, agents, tail, erase, rewind, demo.

    commands.py     the verbs and their options
    corrections.py  those of supersede and relations
    calls.py        the work: calls the server with lorestream.client.MemoryClient, prints the answers
    rewinds.py      the work of lorestream rewind
    demo.py         lorestream demo: writes a simulated village, asks questions, prints the answers

A typical call:

    with calls.connect("http://127.0.0.1:8080") as memories:
        receipt = memories.add("npc:smith", "sold a sword", wait_s=5.0)
        answer = memories.search("npc:smith", "weapons", 5)
"""
