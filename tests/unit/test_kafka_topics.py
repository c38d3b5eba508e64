"""Topics: created when missing, accepted as they are, or refused with the setting to change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from deploy.local.kafka import KafkaBroker
from lorestream.adapters.kafka import topics
from lorestream.adapters.kafka.connection import KafkaConnection
from lorestream.adapters.kafka.topics import ensure
from lorestream.errors import Misconfigured

DAY_S = 86_400.0


@pytest.fixture
def connection(kafka: KafkaBroker) -> KafkaConnection:
    return KafkaConnection(kafka.bootstrap)


@pytest.fixture
async def admin(connection: KafkaConnection) -> AsyncGenerator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(**connection.arguments())
    await client.start()
    yield client
    await client.close()


async def configs(admin: AIOKafkaAdminClient, name: str) -> dict[str, str]:
    answer: Any = (await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)]))[0]
    [(code, *_, entries)] = answer.resources
    assert code == 0
    return {entry[0]: entry[1] for entry in entries}


async def partitions(admin: AIOKafkaAdminClient, name: str) -> int:
    [topic] = await admin.describe_topics([name])
    return len(topic["partitions"])


async def create(admin: AIOKafkaAdminClient, name: str, partitions: int = 1, **settings: str) -> None:
    answer: Any = await admin.create_topics(
        [
            NewTopic(
                name, partitions, 1, None, {key.replace("_", "."): value for key, value in settings.items()}
            )
        ]
    )
    assert answer.topic_errors[0][1] == 0


async def test_missing_topics_are_created_with_their_settings(
    connection: KafkaConnection, admin: AIOKafkaAdminClient, unique: str
) -> None:
    log = topics.events(f"{unique}.events", partitions=5, retention_s=30 * DAY_S)
    dead_letters, erasures = (
        topics.dead_letters(f"{unique}.dlq"),
        topics.erasures(f"{unique}.erasures"),
    )
    await ensure(connection, [log, dead_letters, erasures])

    assert await partitions(admin, log.name) == 5
    assert await partitions(admin, erasures.name) == 1
    kept = await configs(admin, log.name)
    assert (kept["cleanup.policy"], kept["retention.ms"]) == ("delete", "2592000000")
    assert kept["message.timestamp.type"] == "LogAppendTime"
    assert (await configs(admin, dead_letters.name))["retention.ms"] == "1209600000"
    kept = await configs(admin, erasures.name)
    assert (kept["cleanup.policy"], kept["retention.ms"]) == ("compact", "-1")
    assert int((await configs(admin, dead_letters.name))["max.message.bytes"]) > int(
        kept["max.message.bytes"]
    )


async def test_several_processes_may_start_at_once(connection: KafkaConnection, unique: str) -> None:
    wanted = [topics.erasures(unique), topics.dead_letters(f"{unique}.dlq")]
    await asyncio.gather(*(ensure(connection, wanted) for _ in range(5)))


async def test_an_existing_topic_keeps_its_partitions(
    connection: KafkaConnection, admin: AIOKafkaAdminClient, unique: str
) -> None:
    await ensure(connection, [topics.events(unique, partitions=2, retention_s=DAY_S)])
    await ensure(connection, [topics.events(unique, partitions=7, retention_s=DAY_S)])
    assert await partitions(admin, unique) == 2


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        ({"retention_ms": "1000"}, "retention.ms=1000, not 86400000"),
        ({"retention_ms": "86400000", "cleanup_policy": "compact"}, "cleanup.policy=compact, not delete"),
        ({"retention_ms": "86400000", "max_message_bytes": "1000"}, "max.message.bytes=1000, not 1048576"),
    ],
)
async def test_a_topic_with_wrong_settings_is_refused_with_the_command_to_run(
    connection: KafkaConnection,
    admin: AIOKafkaAdminClient,
    unique: str,
    found: dict[str, str],
    complaint: str,
) -> None:
    await create(admin, unique, **found)
    with pytest.raises(Misconfigured) as refused:
        await ensure(connection, [topics.events(unique, partitions=1, retention_s=DAY_S)])
    message = str(refused.value)
    assert unique in message
    assert complaint in message
    assert (
        f"--entity-name {unique} --add-config {complaint.split('=', maxsplit=1)[0]}={complaint.rsplit(' ', maxsplit=1)[-1]}"
        in message
    )


async def test_a_topic_with_a_larger_limit_is_accepted(
    connection: KafkaConnection, admin: AIOKafkaAdminClient, unique: str
) -> None:
    await create(admin, unique, retention_ms="86400000", max_message_bytes="5000000")
    await ensure(connection, [topics.events(unique, partitions=1, retention_s=DAY_S)])


async def test_more_replicas_than_brokers_are_refused(connection: KafkaConnection, unique: str) -> None:
    with pytest.raises(Misconfigured, match=f"{unique}.*[Rr]eplication factor"):
        await ensure(connection, [topics.erasures(unique)], replication=3)
