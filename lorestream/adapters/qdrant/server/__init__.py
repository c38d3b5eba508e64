"""A Qdrant server or Qdrant Cloud, by gRPC.

    catalogue.py     the collections of one alias, and their states as marker aliases
    collection.py    creation, indexes and metadata of a collection; aliases
    store.py         ServerStore: a QdrantStore over a ServerEngine
    engine.py        ServerEngine: the calls to one collection
    one_request.py   OneRequest: a ServerEngine that reads nothing twice for one request
    sharding.py      custom sharding: which shards a call is for
    messages.py      points, filters, queries and formulas as protocol messages
    connection.py    the channel: deadlines, error translation, version check
    snapshots.py     creating, downloading and uploading snapshots
    protocol.py      the messages and stubs of qdrant-client, without its REST client

A write and a search in the active collection:

    async with ServerCatalogue.open_on(
        url, alias="agent_memories", grpc_port=6334, api_key=None, timeout_s=5.0, options=CollectionOptions()
    ) as catalogue:
        active = await catalogue.ensure_active(Model("all-MiniLM-L6-v2@1", dim=384))
        store = await catalogue.open(active.name)
        await store.insert(memories, vectors)
        hits = await store.search(VectorQuery(scope, vector, k=5, now=time.time()))
"""
