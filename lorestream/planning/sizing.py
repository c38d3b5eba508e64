"""From a workload to what it needs. Each part gets the CPU time that its share of the work costs, over UTILISATION."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lorestream.planning.partitions import agent_shares, busiest_share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lorestream.planning.costs import Costs

UTILISATION = 0.6
"""How busy a core may be on average: above that, queues grow fast (of an M/M/1 queue 2.5 times the service time)."""
BUSIEST = 0.85
"""How busy the busiest worker may be on average: agents, and so partitions, have unequal shares."""
ANSWER_LIFE_S = 60.0
"""An answer stays in the cache for at most so long."""
DAY_S = 86_400.0
GB = 1e9
REPLICAS = 3
"""Copies of each record in Kafka."""
_MIN_PROCESSES = 2
"""Of each service, so that one may fail."""
_PARTITIONS = (12, 24, 48, 96, 192, 384, 768, 1536, 3072, 6144, 12_288, 24_576, 49_152)
_PARTITIONS_PER_BROKER = 4000
"""Kafka's own advice for one broker, replicas counted."""
_MOST_ADDED = 150
"""Percent of workers that are added at most because agents are of unequal size."""
_PARTITIONS_PER_WORKER = 4
"""So that their loads differ little, workers can be added, and the partitions of one that fails go to several."""
_SHARD_MEMORIES = 5_000_000


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked of a deployment. Rates are averages over the busiest minutes."""

    agents: int
    events_per_s: float
    searches_per_s: float
    servers: int = 1
    """Game servers; each sends a batch a second."""
    days: float = 30.0
    """For how long a memory is kept."""
    keep: int = 10_000
    """How many memories of an agent are kept at most."""
    log_days: float = 7.0
    """For how long the log is kept."""
    text_bytes: float = 120.0
    """Bytes of the text and data of an event."""
    repeated: float = 0.0
    """Share of the texts whose vector is in the cache, in 0 to 1."""
    cached: float = 0.3
    """Share of the searches that the cache answers, in 0 to 1."""
    skew: float = 1.0
    """Exponent of Zipf's law for the events of agents; 0: all have as many."""
    agent_events_per_s: float = 20.0
    """What the busiest agent has at most, unless the average is more."""
    store_replicas: int = 2
    """Copies of each memory in Qdrant."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a deployment. `count`: of processes or machines; `cores`, `memory_gb` and `disk_gb`: of all together."""

    name: str
    count: int
    cores: float
    memory_gb: float
    disk_gb: float
    why: str


@dataclass(frozen=True, slots=True)
class Limit:
    """What does not grow by adding processes. `headroom`: how many times this workload it carries."""

    name: str
    headroom: float
    remedy: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a workload needs. `limits`: the first to give out first."""

    parts: tuple[Part, ...]
    limits: tuple[Limit, ...]
    partitions: int
    shards: int
    memories: float

    @property
    def fits(self) -> bool:
        """False if no number of processes carries the workload."""
        return self.limits[0].headroom >= 1.0


def plan(workload: Workload, costs: Costs) -> Plan:
    """The sizes of all parts of the distributed shape."""
    rate, reads = workload.events_per_s, workload.searches_per_s
    shares = agent_shares(workload.agents, workload.skew, workload.agent_events_per_s / rate)
    memories = float(np.minimum(shares * rate * workload.days * DAY_S, workload.keep).sum())
    worker_ms = costs.worker_event_ms.value + (1 - workload.repeated) * costs.model_text_ms.value
    uncached = reads * (1 - workload.cached)
    logged_bytes = rate * (workload.text_bytes + costs.event_overhead_bytes.value)
    partitions, workers = _partitions(shares, _processes(_cores(rate, worker_ms)), 1000 / worker_ms / rate)
    shards = max(1, math.ceil(memories / _SHARD_MEMORIES))
    brokers = max(
        REPLICAS,
        math.ceil(logged_bytes * REPLICAS / (UTILISATION * costs.broker_bytes_per_s.value)),
        math.ceil(partitions * REPLICAS / _PARTITIONS_PER_BROKER),
    )
    gateway_cores = _cores(rate, costs.gateway_event_ms.value) + _cores(
        workload.servers, costs.gateway_request_ms.value
    )
    query_cores = _cores(uncached, costs.query_search_ms.value) + _cores(
        reads - uncached, costs.query_cached_ms.value
    )
    # Every copy of a shard writes; one of them answers.
    store_cores = workload.store_replicas * _cores(rate, costs.store_write_ms.value) + _cores(
        uncached, costs.store_search_ms.value
    )
    stored = memories * workload.store_replicas
    store_memory = stored * costs.memory_ram_bytes.value / GB
    store_disk = stored * (costs.memory_disk_bytes.value + workload.text_bytes) / GB
    redis_cores = _cores(reads, costs.redis_read_ms.value)
    redis_memory = uncached * ANSWER_LIFE_S * costs.answer_bytes.value / GB
    log_disk = logged_bytes * workload.log_days * DAY_S * REPLICAS / GB
    parts = (
        Part("gateway", _processes(gateway_cores), gateway_cores, 0.2 * _processes(gateway_cores), 0.0, "events"),
        Part(
            "Kafka", brokers, 2.0 * brokers, 6.0 * brokers, log_disk,
            f"{partitions} partitions, {REPLICAS} copies, {workload.log_days:g} days",
        ),
        Part("worker", workers, _cores(rate, worker_ms), 0.7 * workers, 0.0, "the embedding model"),
        Part(
            "Qdrant", max(workload.store_replicas, math.ceil(store_cores / 8), math.ceil(store_memory / 64)),
            store_cores, store_memory, store_disk,
            f"{shards} shards, {workload.store_replicas} copies, {memories:,.0f} memories",
        ),
        Part("query service", _processes(query_cores), query_cores, 0.7 * _processes(query_cores), 0.0, "searches"),
        Part("Redis", math.ceil(redis_cores) or 1, redis_cores, max(0.1, redis_memory), 0.0, "answers of one minute" + (", a cluster" if redis_cores > 1 else "")),
    )  # fmt: skip
    limits = (
        Limit(
            "the busiest agent, whose events are one after the other in one partition",
            BUSIEST * 1000 / worker_ms / (rate * float(shares[0])),
            "spread its events over several agent ids, or embed on a GPU (LORESTREAM_EMBEDDER__KIND=torch)",
        ),
        Limit(
            "the number of partitions that Kafka's brokers hold",
            brokers * _PARTITIONS_PER_BROKER / (partitions * REPLICAS),
            "more brokers",
        ),
    )
    ordered = tuple(sorted(limits, key=lambda one: one.headroom))
    return Plan(parts, ordered, partitions, shards, memories)


def _cores(per_s: float, each_ms: float) -> float:
    return per_s * each_ms / 1000 / UTILISATION


def _processes(cores: float) -> int:
    return max(_MIN_PROCESSES, math.ceil(cores))


def _partitions(shares: NDArray[np.float64], workers: int, most: float) -> tuple[int, int]:
    """(partitions, workers): so many that no worker is busier than BUSIEST. At least `workers` workers.

    `most`: the share of all events that keeps one worker fully busy. Agents, and so partitions, are of unequal size: the
    busiest worker has far more than the average one, the more so the fewer agents each has. Where one agent is too
    much, no number helps.
    """
    helps = float(shares[0]) <= BUSIEST * most
    added = 0
    while True:
        wanted = math.ceil(workers * (1 + added / 100))
        least = _PARTITIONS_PER_WORKER * wanted
        partitions = next((one for one in _PARTITIONS if one >= least), least)
        if not helps or added == _MOST_ADDED:
            return partitions, wanted
        if busiest_share(shares, partitions, wanted) <= BUSIEST * most:
            return partitions, wanted
        added += 10
