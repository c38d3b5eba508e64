"""Qdrant Edge: Qdrant's engine inside this process, the vector store of the embedded shape.

    catalogue.py       Catalogue: which collections there are, and which one is searched
    catalogue_file.py  the file in which the catalogue keeps them
    store.py           EdgeStore: a VectorStore in one directory
    shard.py           the shard in that directory: created, locked, checked against model and schema
    engine.py          the Engine: searches and writes as calls to Edge
    steps.py           long calls to Edge, divided into steps
    pages.py           points read page by page: scans, and those in order that need a look at their payload
    messages.py        conditions, queries and formulas in Edge's own types

A search in the collection that is active:

    catalogue = EdgeCatalogue(data_dir / "store", "agent_memories")
    active = await catalogue.ensure_active(Model(embedder.model_id, embedder.dim))
    store = await catalogue.open(active.name)
    await store.insert(memories, vectors)          # vectors: float32, one row of `dim` numbers for each memory
    hits = await store.search(query)
    await store.flush()                            # from here on the insert survives a power cut
    await catalogue.close_all()
"""
