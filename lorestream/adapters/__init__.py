"""The adapters: implementations of the ports, one package for each backend. Only these import a vendor's library.

    kafka/       the event log, the erasure ledger and the watermarks in Kafka
    sqlite/      the event log and the erasure ledger in one SQLite file
    qdrant/      the vector store: Qdrant Edge in this process, or a Qdrant server
    redis/       the answer cache, the watermarks and the token buckets in Redis
    embedders/   embedding models: OpenVINO, torch, an HTTP server, hashes
    webhooks/    requests to webhooks, over HTTP
    in_process/  the answer cache and the watermarks in the memory of one process
    embedded/    snapshot and restore of the embedded shape, over sqlite/ and qdrant/

`lorestream.wiring` chooses an adapter by the settings, imports it and opens it. A service calls only the port:

    redis = await openers.open_redis(settings, stack)
    cache = openers.new_cache(settings, redis)  # RedisCache, LocalCache or None
    answer, generation = await cache.get(agent, key)
"""
