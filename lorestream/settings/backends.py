"""The settings of every backend that Lorestream can stand on: one frozen value each, told apart by `kind`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Retention: TypeAlias = Annotated[float, Field(gt=0, le=36_500)]
Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")]
Collection: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# --- the log -----------------------------------------------------------------------------------------------


class EmbeddedLog(_Part):
    """The log in one SQLite file of the data directory."""

    kind: Literal["embedded"] = "embedded"
    retention_days: Retention = 30
    """How long a record is kept, in days: the horizon of a replay."""
    max_bytes: Annotated[int, Field(ge=0)] = 0
    """At most so many bytes of records, 0 = no bound. What no worker has read yet is never dropped."""


class KafkaLog(_Part):
    """The log in Kafka 3.7 or newer. Several gateways, workers and query services share it."""

    kind: Literal["kafka"] = "kafka"
    bootstrap: Annotated[str, Field(min_length=1)]
    """Some of the brokers, as host:port,host:port."""
    retention_days: Retention = 30
    topic: Name = "lorestream.events"
    erasures_topic: Name = "lorestream.erasures"
    dlq_topic: Name = "lorestream.events.dlq"
    partitions: Annotated[int, Field(ge=1, le=10_000)] = 12
    """Of a topic that has to be made: as many workers can share its work."""
    replication: Annotated[int, Field(ge=0, le=32)] = 0
    """Of a topic that has to be made, 0 = the broker's own default."""
    group_prefix: Name = "lorestream"
    member: Name | None = None
    """A name of this worker that outlives its process (group.instance.id): a quick restart moves no partitions."""
    session_timeout_s: Annotated[float, Field(ge=1, le=1800)] = 30
    """How long a worker may be silent before its partitions go to others."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None


# --- the store ---------------------------------------------------------------------------------------------


class EdgeStore(_Part):
    """Qdrant Edge in this process: `edge` in the data directory, `memory` forgets at exit."""

    kind: Literal["edge", "memory"] = "edge"
    collection: Collection = "agent_memories"


class QdrantStore(_Part):
    """A Qdrant server or Qdrant Cloud."""

    kind: Literal["qdrant"] = "qdrant"
    url: Annotated[str, Field(pattern=r"^https?://[^/\s@]+/?$")]
    """Such as http://qdrant:6333, or https://... for TLS."""
    grpc_port: Annotated[int, Field(ge=1, le=65_535)] = 6334
    api_key: SecretStr | None = None
    collection: Collection = "agent_memories"
    """An alias: behind it stands one collection per model."""
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 5
    shards: Annotated[int, Field(ge=0, le=1024)] = 0
    """Of a collection that has to be made, 0 = the server's own default; so are the next two."""
    replication: Annotated[int, Field(ge=0, le=32)] = 0
    write_consistency: Annotated[int, Field(ge=0, le=32)] = 0
    on_disk_payload: bool = True
    quantization: Literal["none", "scalar"] = "none"
    """scalar = one byte a dimension in memory beside the full vectors on disk."""


# --- the cache ---------------------------------------------------------------------------------------------


class LocalCache(_Part):
    """Answers kept in this process, the least recently used leave first; `off` keeps none."""

    kind: Literal["local", "off"] = "local"
    max_entries: Annotated[int, Field(gt=0)] = 50_000
    max_bytes: Annotated[int, Field(gt=0)] = 64 * 2**20


class RedisCache(_Part):
    """Answers in a Redis that keeps nothing on disk and evicts by `allkeys-lru`."""

    kind: Literal["redis"] = "redis"
    url: SecretStr
    """redis://[:password@]host:port/db, or rediss:// for TLS."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")] = "lorestream"


# --- the embedder ------------------------------------------------------------------------------------------


class EmbedderSettings(_Part):
    """The model that turns texts into vectors."""

    kind: Literal["auto", "openvino", "torch", "http", "hash"] = "auto"
    """auto = openvino; torch = sentence-transformers, CPU or GPU; http = any server of OpenAI's
    /v1/embeddings; hash = tests only, no meaning."""
    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    dim: Annotated[int, Field(gt=0)] | None = None
    """When set, a model of another dimension is refused."""
    device: str | None = None
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """0 = as many as the machine has cores."""
    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = None
    """Of kind http: with or without /v1 at its end."""
    api_key: SecretStr | None = None


# --- limits ------------------------------------------------------------------------------------------------

Rate: TypeAlias = Annotated[float, Field(ge=0, le=1e9)]


class LimitSettings(_Part):
    """How much a caller may ask for, a second; 0 = as much as there is."""

    queries_per_s: Rate = 0
    """Of one API key; a batch counts as its searches."""
    agent_queries_per_s: Rate = 0
    events_per_s: Rate = 0
    burst_s: Annotated[float, Field(gt=0, le=3600)] = 2
    """What comes in within this time may be used at once."""


# --- snapshots ---------------------------------------------------------------------------------------------


class SnapshotSettings(_Part):
    """Copies of the whole, taken by the running process."""

    every_hours: Annotated[float, Field(ge=0, le=8760)] = 0
    """How often one is taken; 0 = only when asked for, 12 is a good choice."""
    keep: Annotated[int, Field(ge=0)] = 7
    """How many stay, the newest of them; 0 = all."""
    dir: Path | None = None
    """Where they lie: by default in `snapshots` in the data directory. Another disk outlives that one."""
