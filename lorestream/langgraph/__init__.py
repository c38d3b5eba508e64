"""Lorestream as LangGraph's long-term store. Needs the extra `langgraph`: `pip install '.[langgraph]'`.

    with MemoryClient("http://127.0.0.1:8080") as memories:
        store = LorestreamStore(memories)
        store.put(("npc", "smith"), "debt", {"text": "The miner owes ten lumps of iron."})
        for found in store.search(("npc", "smith"), query="who owes me something?"):
            print(found.key, found.value["text"], found.score)

    namespaces  translation of namespaces and agent ids
    items       translation of items and memories, filters
    steps       operations as generators of calls
    versions    reads that see of each item the newest version only
    store       LorestreamStore: the calls for each operation, sent by either client

A namespace is an agent; the agent id is its labels, joined by dots: ("npc", "smith") is `npc.smith`, and
("npc:woodcutter-1",) is the agent that a game writes to. A player's label is moved to the end, so that the server
hides the name: ("player:ann", "notes") is `notes.0:player:ann`, is found from ("player:ann",), and is erased by
`forget_player("ann")`. An item is a memory of type `langgraph`; its value is the
metadata. Memories that a game wrote are found too, under keys that begin with `lorestream:`.

Differences from LangGraph's own stores:

- A memory never changes. A put writes a new memory, and deletes the previous version once the new one can be found;
  reads show the newest version, and limit, offset and filters see no other. Two concurrent puts of one key leave two
  versions until the next put of that key. A search with a filter or a query sends a second request, which looks up
  the items that it has found.
- A put or a delete returns when every reader sees it. After `wait_s` it raises Unavailable: it is durable, but was not
  visible in time.
- An item has one vector, for the texts of all its fields. A query does not find items that are not indexed.
- A ttl counts from the put; reads do not refresh it. An item without a ttl never expires.
- A condition on a list is true when one element satisfies it. A filter cannot compare with lists or null, and cannot
  name fields with dots: ValueError.
- A search also covers the namespaces below the given one, and `list_namespaces` covers all, by listing the agents:
  with API keys, this needs a key with the scope admin. With `below=False` a search covers only the namespace itself,
  and needs the scope query only. More than 1,000 namespaces cannot be listed: ValueError.
- A search with a query has at most 100 hits, offset included. A value and its text have at most 16 KiB together.
- Player names: the label `player:NAME` (or `…:player:NAME`) is stored and listed under a pseudonym. A namespace can
  have one. Names in values are not replaced.
"""

from lorestream.langgraph.store import LorestreamStore

__all__ = ["LorestreamStore"]
