"""Lorestream as LangGraph's store of long-term memory. Needs `pip install '.[langgraph]'`.

    with MemoryClient("http://127.0.0.1:8080") as memories:
        store = LorestreamStore(memories)
        store.put(("npc", "smith"), "debt", {"text": "The miner owes ten lumps of iron."})
        for found in store.search(("npc", "smith"), query="who owes me something?"):
            print(found.key, found.value["text"], found.score)

A namespace is an agent, whose id is its labels with dots between them: ("npc", "smith") is `npc.smith`, and
("npc:woodcutter-1",) is the agent that a game writes to. An item is a memory of its own type; its value is the
metadata. Memories of a game are found too, under keys that begin with `lorestream:`.

What differs from LangGraph's own stores:

- Lorestream never changes a memory. A put is written under a new id, and once it can be found the version before it is
  deleted; reads show the newest version. Two puts of one key at the same time leave both until the next put of it.
- A put or a delete returns when every reader sees it; `wait_s` bounds that, and Unavailable says that it took longer.
- An item has one vector: the texts of its fields together. An item that is not indexed is left out by a query.
- A ttl counts from the put; reading refreshes none. An item without one lives for ever.
- A condition on a list holds when one of its elements satisfies it. Lists, nulls and names with dots cannot be asked
  for: ValueError.
- A search covers what lies below a namespace, and `list_namespaces` all there is, by listing the agents: where there
  are API keys, that takes one with the scope admin. With `below=False` a search covers the namespace itself, and any
  key that may read will do. More than 1,000 namespaces cannot be listed: ValueError.
- A search with a query has at most 100 hits, offset included. A value and its text have at most 16 KiB together.
- Player names: an agent `player:NAME` is stored and listed under a pseudonym. Names elsewhere stay as they are.
"""

from lorestream.langgraph.store import LorestreamStore

__all__ = ["LorestreamStore"]
