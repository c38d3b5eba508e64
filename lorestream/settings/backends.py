"""The settings of the backends: one frozen model for each, distinguished by `kind`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from pydantic_core import PydanticCustomError

Retention: TypeAlias = Annotated[float, Field(gt=0, le=36_500)]
Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")]
Collection: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# --- the log -----------------------------------------------------------------------------------------------


class EmbeddedLog(_Part):
    """The log in one SQLite file of the data directory."""

    kind: Literal["embedded"] = "embedded"
    retention_days: Retention = 30
    """How long records are kept, in days. A replay can only rebuild from records that are kept."""
    max_bytes: Annotated[int, Field(ge=0)] = 0
    """Maximum size of all records in bytes, 0 = unlimited. Records not yet indexed are never dropped."""


class KafkaLog(_Part):
    """The log in Kafka 3.7 or newer, shared by all gateways, workers and query services."""

    kind: Literal["kafka"] = "kafka"
    bootstrap: Annotated[str, Field(min_length=1)]
    """Addresses of some brokers: host:port,host:port."""
    retention_days: Retention = 30
    """How long records are kept, in days. A replay can only rebuild from records that are kept."""
    topic: Name = "lorestream.events"
    """The topic of events."""
    erasures_topic: Name = "lorestream.erasures"
    """The compacted topic of erasures."""
    dlq_topic: Name = "lorestream.events.dlq"
    """The topic of dead letters."""
    partitions: Annotated[int, Field(ge=1, le=10_000)] = 12
    """Partitions of a new topic: the maximum number of workers that can share the work."""
    replication: Annotated[int, Field(ge=0, le=32)] = 0
    """Replication factor of a new topic, 0 = the default of the broker."""
    group_prefix: Name = "lorestream"
    """First part of the names of consumer groups."""
    member: Name | None = None
    """Static name of this worker (group.instance.id): a quick restart then moves no partitions. Default: none."""
    session_timeout_s: Annotated[float, Field(ge=1, le=1800)] = 30
    """Seconds without a heartbeat after which the partitions of a worker are assigned to others."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How to connect to the brokers: with or without TLS and login."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """The login mechanism, for SASL_PLAINTEXT and SASL_SSL."""
    sasl_username: str | None = None
    """The user name of the login. Default: none."""
    sasl_password: SecretStr | None = None
    """The password of the login. Default: none."""
    ssl_cafile: str | None = None
    """Path of the CA certificates for TLS. Default: those of the system."""
    ssl_certfile: str | None = None
    """Path of the client certificate for TLS. Default: none."""
    ssl_keyfile: str | None = None
    """Path of the key of the client certificate. Default: none."""


# --- the store ---------------------------------------------------------------------------------------------


class EdgeStore(_Part):
    """Qdrant Edge in this process."""

    kind: Literal["edge", "memory"] = "edge"
    """edge = stored in the data directory; memory = log and store are lost at exit."""
    collection: Collection = "agent_memories"
    vectors: Literal["float32", "float16"] = "float32"
    """How a new collection stores vectors. float16 takes half the memory and time of a search, and rounds cosines by up to
    0.0001."""


class QdrantStore(_Part):
    """A Qdrant server or Qdrant Cloud."""

    kind: Literal["qdrant"] = "qdrant"
    url: Annotated[str, Field(pattern=r"^https?://(\[[0-9A-Fa-f:.]+\]|[^/\s@:\[\]]+)(:[0-9]{1,5})?/?$")]
    """Address of the REST API, such as http://qdrant:6333, or https://... for TLS."""
    grpc_port: Annotated[int, Field(ge=1, le=65_535)] = 6334
    """Port of the gRPC API on the same host."""
    api_key: SecretStr | None = None
    """The API key. Default: none."""
    collection: Collection = "agent_memories"
    """The alias that is searched. It points to one collection for each model and replay."""
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 5
    """Timeout of each call in seconds."""
    shards: Annotated[int, Field(ge=0, le=1024)] = 0
    """Shards of a new collection, 0 = the default of the server. With `shard_keys`: the shards of each key."""
    shard_keys: Annotated[int, Field(ge=0, le=1024)] = 0
    """Shard keys of a new collection: an agent's memories are in the shard of one key, which its searches ask alone. 0 = the
    server distributes the memories, and each search asks all shards. Needs a Qdrant in cluster mode."""
    replication: Annotated[int, Field(ge=0, le=32)] = 0
    """Replication factor of a new collection, 0 = the default of the server."""
    write_consistency: Annotated[int, Field(ge=0, le=32)] = 0
    """Replicas that must confirm a write to a new collection, 0 = the default of the server."""
    on_disk_payload: bool = True
    """Whether a new collection keeps payloads on disk instead of in memory."""
    vectors: Literal["float32", "float16"] = "float32"
    """How a new collection stores vectors. float16 takes half the memory, and rounds cosines by up to 0.0001."""
    quantization: Literal["none", "scalar"] = "none"
    """How a new collection stores vectors. scalar = one byte per dimension in memory, the full vectors on disk."""


# --- the cache ---------------------------------------------------------------------------------------------


class LocalCache(_Part):
    """The answer cache in this process. Evicts the least recently used answers first."""

    kind: Literal["local", "off"] = "local"
    """local = cache in memory; off = no cache."""
    max_entries: Annotated[int, Field(gt=0)] = 50_000
    """Maximum number of cached answers."""
    max_bytes: Annotated[int, Field(gt=0)] = 64 * 2**20
    """Maximum size of all cached answers in bytes: 64 MiB."""


class RedisCache(_Part):
    """The answer cache in Redis, which must run without persistence and with `maxmemory-policy allkeys-lru`."""

    kind: Literal["redis"] = "redis"
    url: SecretStr
    """Address: redis://[:password@]host:port/db, or rediss:// for TLS."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")] = "lorestream"
    """First part of all keys in Redis."""


# --- the embedder ------------------------------------------------------------------------------------------


class EmbedderSettings(_Part):
    """The model that turns texts into vectors."""

    kind: Literal["auto", "openvino", "torch", "http", "hash"] = "auto"
    """auto = openvino; torch = sentence-transformers on CPU or GPU; http = any server with OpenAI's
    /v1/embeddings; hash = for tests only, does not find by meaning."""
    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Name on the Hugging Face hub, directory, or name at the http server."""
    dim: Annotated[int, Field(gt=0)] | None = None
    """Dimension of the vectors. If set, a model with another dimension is refused. Default: that of the model."""
    device: str | None = None
    """The device for the model, as OpenVINO or torch name it. Default: the CPU for OpenVINO; torch chooses."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU threads of the model, 0 = the number of cores."""
    precision: Literal["auto", "fp32", "fp16"] = "auto"
    """What the model computes in. auto = bf16 for OpenVINO on processors with instructions for it, else fp32;
    fp16 = for torch on a GPU, see docs/benchmark.md."""
    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = None
    """Address of the server, for kind http: with or without /v1 at its end."""
    api_key: SecretStr | None = None
    """API key of the server, for kind http. Default: none."""
    query_prefix: str = ""
    """Put before each query, for kind http: what the model was trained with. The other kinds know their model's own."""
    passage_prefix: str = ""
    """Put before each memory, for kind http. Another value needs a replay, as another model does."""


# --- the reranker ------------------------------------------------------------------------------------------


class RerankerSettings(_Part):
    """The second look at the best memories of a search, for searches with `rerank`."""

    model: str | None = None
    """A cross-encoder: its name on the Hugging Face hub, or a directory. Default: the token vectors of the embedding
    model are compared, which needs no further model."""
    device: str | None = None
    """The device for the cross-encoder, as OpenVINO names it. Default: the CPU."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU threads of the cross-encoder, 0 = the number of cores."""
    candidates: Annotated[int, Field(ge=1, le=100)] = 50
    """How many of the best memories are compared with the query again."""
    timeout_ms: Annotated[float, Field(gt=0, le=5000)] = 1000
    """Milliseconds after which the first order stands. A whole read has 10 s."""


# --- limits ------------------------------------------------------------------------------------------------

Rate: TypeAlias = Annotated[float, Field(ge=0, le=1e9)]


class LimitSettings(_Part):
    """Rate limits per second, by token bucket; 0 = unlimited. Requests above a limit get 429."""

    queries_per_s: Rate = 0
    """Searches per second of one API key; each search of a batch counts."""
    agent_queries_per_s: Rate = 0
    """Searches per second of one agent."""
    events_per_s: Rate = 0
    """Events per second of one API key."""
    burst_s: Annotated[float, Field(gt=0, le=3600)] = 2
    """Size of the bucket, in seconds of the rate: that many requests may come at once."""


# --- searches ----------------------------------------------------------------------------------------------


class SearchSettings(_Part):
    """Defaults of searches."""

    neighbours: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How much the memories before and behind a memory lift its score in searches by meaning and words, 0 = not."""
    neighbour_gap_s: Annotated[float, Field(ge=0)] = 300
    """Memories without a conversation are next to each other if they are at most this many seconds apart."""


# --- state -------------------------------------------------------------------------------------------------


class StateSettings(_Part):
    """Documents and policies."""

    keep_versions: Annotated[int, Field(ge=1, le=1000)] = 20
    """How many versions of each document and policy are kept, the current one included."""


# --- snapshots ---------------------------------------------------------------------------------------------


LANGUAGES = frozenset(
    [
        "arabic",
        "azerbaijani",
        "basque",
        "bengali",
        "catalan",
        "chinese",
        "danish",
        "dutch",
        "english",
        "finnish",
        "french",
        "german",
        "greek",
        "hebrew",
        "hinglish",
        "hungarian",
        "indonesian",
        "italian",
        "japanese",
        "kazakh",
        "nepali",
        "norwegian",
        "portuguese",
        "romanian",
        "russian",
        "slovene",
        "spanish",
        "swedish",
        "tajik",
        "turkish",
    ]
)
"""The languages of which Qdrant knows the stop words and, for most, a stemmer."""


def _known_languages(value: str) -> str:
    chosen = {one.strip().lower() for one in value.split(",")}
    if unknown := chosen - LANGUAGES:
        raise PydanticCustomError(
            "language",
            "no language {unknown}; choose from {known}, several separated by commas",
            {"unknown": ", ".join(sorted(unknown)) or "is named", "known": ", ".join(sorted(LANGUAGES))},
        )
    return ",".join(sorted(chosen))


class WebhookSettings(_Part):
    """Webhooks."""

    allow_private: bool = False
    """Whether webhooks may reach private and loopback addresses. Without API keys, `lorestream up` always reaches loopback
    ones."""


class KeywordSettings(_Part):
    """Searches for words."""

    language: Annotated[str, AfterValidator(_known_languages)] = "english"
    """The language of the texts, or several, separated by commas. For collections that are created from now on."""

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages, in alphabetical order."""
        return tuple(self.language.split(","))


class SnapshotSettings(_Part):
    """Scheduled snapshots, taken by the running process."""

    every_hours: Annotated[float, Field(ge=0, le=8760)] = 0
    """Hours between snapshots, 0 = none are scheduled. 12 is a good choice."""
    keep: Annotated[int, Field(ge=0)] = 7
    """How many snapshots to keep, the newest of them; 0 = all."""
    dir: Path | None = None
    """Directory of snapshots. Default: `snapshots` in the data directory. Another disk protects against a disk failure."""


def plain(secret: SecretStr | None) -> str | None:
    """The value of a secret; None without one."""
    return secret.get_secret_value() if secret is not None else None
