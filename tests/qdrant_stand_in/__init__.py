"""A stand-in for a Qdrant 1.18 server, for machines that have none: test equipment, never a store for data.

    python -m tests.qdrant_stand_in --data DIR --grpc-port 6334 --port 6333 [--api-key KEY]

It serves the gRPC calls that the adapter makes, and the REST routes for health and snapshot files, over Qdrant Edge:
Qdrant's own engine in one process, with one shard per collection. So conditions, orders and scores are those of the
real engine. The rest (protocol, collections and aliases, the API key, error codes) follows the source of Qdrant 1.18.
Calls and fields that it does not implement are UNIMPLEMENTED; none is ignored silently. Differences to a server:

- one shard, no replicas: shards, replication, consistency and ordering are stored and shown, without effect; with shard
  keys each call reads and writes only the points of those that it names;
- no graph and no quantisation: every search is exact, which is what the adapter requests;
- Edge 0.9 is newer than 1.18 and compares words where 1.18 evaluates `match.text` as a substring: here `text` is
  evaluated by Edge's substring match;
- one thread: calls of several clients are served one after the other.

    __main__.py             the command line
    serving.py              the gRPC and REST ports
    catalogue.py            collections and aliases in a directory
    shard_keys.py           custom sharding
    points_service.py       the gRPC service Points; filters.py and formulas.py translate to Edge
    collections_service.py  the gRPC service Collections
    snapshots_service.py    the gRPC service Snapshots, and the files of REST
    refusals.py             errors, and the check for fields that are not implemented
    process.py              the stand-in as a child process
    fixtures.py             pytest fixtures: a configured server, else the stand-in
"""
