"""The topics that Lorestream needs: created with the right settings, or checked and refused with what to change."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import stamina
import structlog
from aiokafka import errors as kafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from lorestream.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from lorestream.adapters.kafka.connection import KafkaConnection

_log = structlog.get_logger("lorestream.kafka")

MAX_RECORD_BYTES = 1024 * 1024
"""Of one batch, compressed. An event has at most 16 KiB."""
DEAD_LETTER_RETENTION_S = 14 * 86_400.0
FOR_EVER_MS = -1

_EXACT = ("cleanup.policy", "retention.ms")
"""Another value of these loses what was promised to be kept, or keeps what was promised to go."""
_AT_LEAST = ("max.message.bytes",)

_SAFE_REPLICAS = 3
_KNOWN_WITHIN_S = 5.0
_READY_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is to be: `partitions` counts only when it is created, `configs` are Kafka's own names."""

    name: str
    partitions: int
    configs: Mapping[str, str]


def events(name: str, *, partitions: int, retention_s: float) -> Topic:
    """The log itself. The broker stamps the records, so that retention goes by one clock."""
    configs = {
        "cleanup.policy": "delete",
        "retention.ms": str(round(retention_s * 1000)),
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(MAX_RECORD_BYTES),
    }
    return Topic(name, partitions, configs)


def dead_letters(name: str) -> Topic:
    """One partition: they are few, and read by people. Room for the largest record and its reasons."""
    configs = {
        "cleanup.policy": "delete",
        "retention.ms": str(round(DEAD_LETTER_RETENTION_S * 1000)),
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(2 * MAX_RECORD_BYTES),
    }
    return Topic(name, 1, configs)


def erasures(name: str) -> Topic:
    """One partition, so that all processes see the erasures in one order; the newest of each key is kept."""
    configs = {
        "cleanup.policy": "compact",
        "retention.ms": str(FOR_EVER_MS),
        "max.message.bytes": str(MAX_RECORD_BYTES),
    }
    return Topic(name, 1, configs)


async def ensure(connection: KafkaConnection, topics: Sequence[Topic], *, replication: int = 0) -> None:
    """Create the topics that are missing, and check those that are there; another process may do so too.

    `replication` 0 is the broker's default. Raises Unavailable, and Misconfigured with what has to be changed.
    """
    await connection.check()
    with connection.translated("create topics"):
        await _ensure(connection, topics, replication)


# The controller is asked on a connection of its own, which a busy broker may not have taken yet.
@stamina.retry(on=kafka.NodeNotReadyError, timeout=_READY_WITHIN_S, attempts=None, wait_max=0.5)
async def _ensure(connection: KafkaConnection, topics: Sequence[Topic], replication: int) -> None:
    async with _admin(connection) as admin:
        present = set(await admin.list_topics())
        missing = [topic for topic in topics if topic.name not in present]
        if missing:
            await _create(admin, missing, replication)
        for topic in topics:
            await _check(admin, topic)


async def partitions_of(connection: KafkaConnection) -> Mapping[str, int]:
    """The topics at the broker that we may see, and how many partitions each has. Raises as `ensure`."""
    await connection.check()
    with connection.translated("list topics"):
        async with _admin(connection) as admin:
            topics: list[dict[str, Any]] = await admin.describe_topics()
    return {topic["topic"]: len(topic["partitions"]) for topic in topics}


@asynccontextmanager
async def _admin(connection: KafkaConnection) -> AsyncGenerator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**connection.arguments())
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def _create(admin: AIOKafkaAdminClient, topics: Sequence[Topic], replication: int) -> None:
    answer: Any = await admin.create_topics([_new(topic, replication) for topic in topics])
    for name, code, message in answer.topic_errors:
        error = kafka.for_code(code)
        if error is kafka.NoError:
            _log.info("topic created", topic=name)
        elif error in {kafka.InvalidReplicationFactorError, kafka.PolicyViolationError}:
            raise Misconfigured(f"Kafka will not create the topic {name}: {message}")
        elif error is not kafka.TopicAlreadyExistsError:
            raise error(f"{name}: {message}")


def _new(topic: Topic, replication: int) -> NewTopic:
    configs = dict(topic.configs)
    if replication >= _SAFE_REPLICAS:
        # An acknowledged record then outlives any one broker, and one broker may be away for writes.
        configs["min.insync.replicas"] = "2"
    # -1 is the broker's default, which aiokafka takes only along with an assignment of replicas, even an empty one.
    return NewTopic(topic.name, topic.partitions, replication or -1, None if replication else {}, configs)


async def _check(admin: AIOKafkaAdminClient, topic: Topic) -> None:
    try:
        found = await _configs(admin, topic.name)
    except kafka.TopicAuthorizationFailedError:
        _log.info("the settings of a topic could not be checked", topic=topic.name, reason="not authorised")
        return
    for key, wanted in topic.configs.items():
        if not _suffices(key, found.get(key, ""), wanted):
            raise Misconfigured(
                f"the topic {topic.name} has {key}={found.get(key)}, not {wanted}: change the setting of"
                f" Lorestream, or type: kafka-configs.sh --alter --entity-type topics --entity-name {topic.name}"
                f" --add-config {key}={wanted}"
            )


def _suffices(key: str, found: str, wanted: str) -> bool:
    if key in _AT_LEAST:
        return int(found) >= int(wanted)
    return key not in _EXACT or found == wanted


# A topic that was created a moment ago is not known to every broker yet.
@stamina.retry(on=kafka.UnknownTopicOrPartitionError, timeout=_KNOWN_WITHIN_S, attempts=None, wait_max=0.5)
async def _configs(admin: AIOKafkaAdminClient, name: str) -> dict[str, str]:
    answers: list[Any] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    [(code, message, _, _, entries)] = answers[0].resources
    error = kafka.for_code(code)
    if error is not kafka.NoError:
        raise error(f"{name}: {message}")
    return {entry[0]: entry[1] for entry in entries}


async def cluster_id(connection: KafkaConnection) -> str:
    """The id that the cluster was formatted with: offsets of another one mean nothing here.

    Raises Unavailable and Misconfigured.
    """
    await connection.check()
    with connection.translated("describe itself"):
        admin = AIOKafkaAdminClient(**connection.arguments())
        await admin.start()
        try:
            cluster: dict[str, Any] = await admin.describe_cluster()
        finally:
            await admin.close()
    return str(cluster["cluster_id"])
