"""Which Kafka cluster this is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka.admin import AIOKafkaAdminClient

if TYPE_CHECKING:
    from lorestream.adapters.kafka_connection import KafkaConnection


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
