"""Memories in Qdrant, embedded (Qdrant Edge) or on a server: the ports MemoryReader, MemoryWriter, RowWriter, StoreMaintenance.

    store.py               QdrantStore: writes and maintenance; inherits the reads from QdrantReader
    reader.py              QdrantReader: search, page, count, get, agents
    rows.py                QdrantRows: reads and guarded writes of rows
    hybrid.py              searches by meaning and words: the candidates of two lists with both scores
    nearest.py             searches by one similarity, exact also among equal memories
    few.py                 all memories of agents that have only a few, read at once and kept until the next write
    words.py               the words of a text as a sparse vector for BM25, by language
    scoring.py             similarity by vector and by BM25; blends with recency and importance as a Qdrant formula
    conditions.py          the conditions on points, and those of scopes, expiry and links
    filter_translation.py  filters as such conditions, exactly or between two bounds
    exact_filter.py        filters evaluated on a memory, where a condition is only approximate
    agents.py              the agents whose points a call is about
    corrections.py         which memories are superseded
    adjacent.py            the memories before and behind given ones
    ordering.py            reading in the exact order of memories, where Qdrant orders by tick only
    payload.py             a memory as point id and payload, and back
    row_payload.py         a row as point id and payload, and back
    engine.py              the interface to Qdrant that `edge/` and `server/` implement
    edge/                  the engine in this process: store, shard files, catalogue of collections
    server/                the engine on a server, by gRPC: store, catalogue of collections, snapshots

One insert (QdrantStore is generic over its engine; EdgeStore and ServerStore only open one):

    store.insert(memories, vectors)                 store.py: check the shapes, compute the point ids
        encode_memory(memory)                       payload.py: payload with `body`, keys for filters, hashes
        words.document(text)                        words.py: sparse vector for BM25
        engine.point(id, payload, vector, words)    edge/engine.py or server/engine.py
        engine.upsert(points, insert_only=True)     existing points and tombstones stay as they are

One search:

    reader.search(VectorQuery(scope, vector, k, now, filter))          reader.py
        translate_filter(filter), scope_clause(scope)                  filter_translation.py, conditions.py
        engine.nearest(clauses, similarity.nearest(k + tie_margin))    edge/engine.py or server/engine.py
        decode_memory(payload), matches(filter, memory)                payload.py, exact_filter.py
        sort by relevance, then newer; read more if the k-th is tied   nearest.py, ordering.py
"""
