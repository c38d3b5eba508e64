"""The topics of Lorestream: created when missing; existing ones are checked, and refused when a setting is wrong."""

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
from lorestream.ports.log import DEAD_LETTER_RETENTION_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from lorestream.adapters.kafka.connection import KafkaConnection

_log = structlog.get_logger("lorestream.kafka")

MAX_RECORD_BYTES = 1024 * 1024
"""Limit of one batch, compressed (`max.message.bytes`). A record in it has at most `events.MAX_VALUE_BYTES`."""
UNLIMITED_RETENTION_MS = -1

_EXACT = ("cleanup.policy", "retention.ms")
"""Settings that must be equal: another value deletes data too early or keeps data that must be deleted."""
_AT_LEAST = ("max.message.bytes",)
"""Settings that may be larger."""

_MIN_REPLICATION_FOR_TWO_INSYNC = 3
_METADATA_TIMEOUT_S = 5.0
"""How long a topic that was just created may be unknown to some brokers."""
_CONTROLLER_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Topic:
    """The wanted state of a topic. `partitions` applies only when it is created; `configs` has Kafka's setting names."""

    name: str
    partitions: int
    configs: Mapping[str, str]


def events(name: str, *, partitions: int, retention_s: float) -> Topic:
    """The topic of events. The brokers set the timestamps, so that retention does not depend on clients' clocks."""
    configs = {
        "cleanup.policy": "delete",
        "retention.ms": str(round(retention_s * 1000)),
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(MAX_RECORD_BYTES),
    }
    return Topic(name, partitions, configs)


def dead_letters(name: str) -> Topic:
    """The topic of dead letters: one partition, and room for the largest record plus the headers with the error."""
    configs = {
        "cleanup.policy": "delete",
        "retention.ms": str(round(DEAD_LETTER_RETENTION_S * 1000)),
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(2 * MAX_RECORD_BYTES),
    }
    return Topic(name, 1, configs)


def erasures(name: str) -> Topic:
    """The compacted topic of erasures: the newest record of each key is kept without limit.

    One partition, so that all processes read the erasures in the same order.
    """
    configs = {
        "cleanup.policy": "compact",
        "retention.ms": str(UNLIMITED_RETENTION_MS),
        "max.message.bytes": str(MAX_RECORD_BYTES),
    }
    return Topic(name, 1, configs)


async def ensure(connection: KafkaConnection, topics: Sequence[Topic], *, replication: int = 0) -> None:
    """Create missing topics and check the settings of existing ones. Several processes may do this at the same time.

    `replication` applies to new topics; 0 is the broker's default. Raises Unavailable, and Misconfigured with the
    setting that has to be changed.
    """
    await connection.check()
    with connection.translate_errors("create topics"):
        await _ensure(connection, topics, replication)


# aiokafka opens a separate connection to the controller, which a busy broker may not have accepted yet.
@stamina.retry(on=kafka.NodeNotReadyError, timeout=_CONTROLLER_TIMEOUT_S, attempts=None, wait_max=0.5)
async def _ensure(connection: KafkaConnection, topics: Sequence[Topic], replication: int) -> None:
    async with _open_admin(connection) as admin:
        present = set(await admin.list_topics())
        missing = [topic for topic in topics if topic.name not in present]
        if missing:
            await _create(admin, missing, replication)
        for topic in topics:
            await _check(admin, topic)


async def partitions_of(connection: KafkaConnection) -> Mapping[str, int]:
    """Name and number of partitions of every topic that this user may see. Raises Unavailable and Misconfigured."""
    await connection.check()
    with connection.translate_errors("list topics"):
        async with _open_admin(connection) as admin:
            topics: list[dict[str, Any]] = await admin.describe_topics()
    return {topic["topic"]: len(topic["partitions"]) for topic in topics}


@asynccontextmanager
async def _open_admin(connection: KafkaConnection) -> AsyncGenerator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**connection.arguments())
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def _create(admin: AIOKafkaAdminClient, topics: Sequence[Topic], replication: int) -> None:
    answer: Any = await admin.create_topics([_new_topic(topic, replication) for topic in topics])
    for name, code, message in answer.topic_errors:
        error = kafka.for_code(code)
        if error is kafka.NoError:
            _log.info("topic created", topic=name)
        elif error in {kafka.InvalidReplicationFactorError, kafka.PolicyViolationError}:
            raise Misconfigured(f"Kafka refused to create the topic {name}: {message}")
        elif error is not kafka.TopicAlreadyExistsError:
            raise error(f"{name}: {message}")


def _new_topic(topic: Topic, replication: int) -> NewTopic:
    configs = dict(topic.configs)
    if replication >= _MIN_REPLICATION_FOR_TWO_INSYNC:
        # An acknowledged record is then on two brokers, and writes go on while one of three is down.
        configs["min.insync.replicas"] = "2"
    # -1 is the broker's default; aiokafka accepts it only together with a replica assignment, even an empty one.
    return NewTopic(topic.name, topic.partitions, replication or -1, None if replication else {}, configs)


async def _check(admin: AIOKafkaAdminClient, topic: Topic) -> None:
    try:
        found = await _configs(admin, topic.name)
    except kafka.TopicAuthorizationFailedError:
        _log.info("topic settings not checked: this Kafka user may not describe configs", topic=topic.name)
        return
    for key, wanted in topic.configs.items():
        if not _suffices(key, found.get(key, ""), wanted):
            raise Misconfigured(
                f"the topic {topic.name} has {key}={found.get(key)}, not {wanted}: change the setting of"
                f" Lorestream, or run: kafka-configs.sh --alter --entity-type topics --entity-name {topic.name}"
                f" --add-config {key}={wanted}"
            )


def _suffices(key: str, found: str, wanted: str) -> bool:
    if key in _AT_LEAST:
        return int(found) >= int(wanted)
    return key not in _EXACT or found == wanted


# A topic that was just created is not known to every broker yet.
@stamina.retry(
    on=kafka.UnknownTopicOrPartitionError, timeout=_METADATA_TIMEOUT_S, attempts=None, wait_max=0.5
)
async def _configs(admin: AIOKafkaAdminClient, name: str) -> dict[str, str]:
    answers: list[Any] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    [(code, message, _, _, entries)] = answers[0].resources
    error = kafka.for_code(code)
    if error is not kafka.NoError:
        raise error(f"{name}: {message}")
    return {entry[0]: entry[1] for entry in entries}


async def cluster_id(connection: KafkaConnection) -> str:
    """The id of the cluster. Stored offsets are valid only for the cluster with the same id.

    Raises Unavailable and Misconfigured.
    """
    await connection.check()
    with connection.translate_errors("read the cluster id"):
        async with _open_admin(connection) as admin:
            cluster: dict[str, Any] = await admin.describe_cluster()
    return str(cluster["cluster_id"])
