"""A stand-in for a Qdrant 1.18 server, for machines that have none: test equipment, never a store for data.

    python -m tests.qdrant_stand_in --data DIR --grpc-port 6334 --port 6333 [--api-key KEY]

It serves the gRPC calls that the adapter makes, and the health routes of REST, over Qdrant Edge: Qdrant's own
engine in one process, one shard a collection. So conditions, orders and scores come from the real thing; what
stands around them (the wire, names and aliases, the key, error codes) is written after Qdrant 1.18's source.
Whatever it does not know is UNIMPLEMENTED, and nothing is ignored silently. It differs from a server in this:

- one shard, no replicas: shards, replication, consistency and ordering are kept and shown, and change nothing;
- no graph and no quantisation: every search is exact, which is what the adapter asks for;
- Edge 0.9 is newer than 1.18, and compares words where 1.18 looks for `match.text` as a substring: here `text`
  is answered by Edge's substring match;
- one thread: calls of several clients take turns.
"""
