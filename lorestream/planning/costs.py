"""The costs of one event, one search and one memory. `python -m tests.load.costs` writes costs.json from measurements."""

from __future__ import annotations

from importlib import resources

import msgspec


class Cost(msgspec.Struct, frozen=True):
    """`value` in `unit`, and where it was measured."""

    value: float
    unit: str
    source: str


class Costs(msgspec.Struct, frozen=True):
    """CPU time in milliseconds of one core, space in bytes."""

    gateway_event_ms: Cost
    """In the gateway, for one event in a batch."""
    gateway_request_ms: Cost
    """In the gateway, for one batch, without its events."""
    worker_event_ms: Cost
    """In the worker, for one event, without the model."""
    model_text_ms: Cost
    """In the worker, for one text of about 22 tokens that is not in the cache of vectors."""
    store_write_ms: Cost
    """In the Qdrant server, for one memory, its graph index included."""
    store_search_ms: Cost
    """In the Qdrant server, for one search in mode hybrid."""
    query_search_ms: Cost
    """In the query service, for one search in mode hybrid that is not in the cache of answers, its vector included."""
    query_cached_ms: Cost
    """In the query service, for one search that is in the cache of answers."""
    redis_read_ms: Cost
    """In Redis, for one look-up of an answer."""
    broker_bytes_per_s: Cost
    """What one Kafka broker takes in, from producers and from other brokers together."""
    event_overhead_bytes: Cost
    """In the log, for one event, beside its text."""
    memory_ram_bytes: Cost
    """In the Qdrant server, for one memory in memory: the vector, the words, the indexes."""
    memory_disk_bytes: Cost
    """In the Qdrant server, for one memory on disk, beside its text."""
    answer_bytes: Cost
    """In Redis, for one answer of ten memories."""


def measured_costs() -> Costs:
    """The costs that come with this version."""
    return msgspec.json.decode(
        resources.files("lorestream.planning").joinpath("costs.json").read_bytes(), type=Costs
    )
