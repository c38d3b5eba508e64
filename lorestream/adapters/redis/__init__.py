"""The answer cache, the access times, the watermarks and the token buckets in Redis. An outage of Redis costs speed, never correctness.

    client         RedisClient: `try_command` and `try_script` for what may fail, `command` for what must succeed
    nodes          Nodes: sends each command to the node of a Redis Cluster that has its key, or to the one server
    connection     MultiplexedConnection: one connection that all `try_...` calls share
    cache          RedisCache, the Cache: one hash per agent
    accesses       RedisAccessTimes, the AccessTimes: one hash per agent
    watermarks     RedisWatermarks, the WatermarkReader and WatermarkPublisher: one hash per consumer group
    token_buckets  RedisTokenBuckets: rate limits that all services share

A cached answer passes cache, client, nodes, connection.

    async with RedisClient.open("redis://redis:6379/0", prefix="lorestream") as client:
        cache = RedisCache(client)
        answer, generation = await cache.get(agent, key)
        if answer is None:
            answer = await compute()
            await cache.put(agent, key, answer, generation, ttl_s=60)
        ...
        await cache.invalidate([agent])  # after a write; raises Unavailable
"""
