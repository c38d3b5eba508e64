"""Opens the event log and the ledger of erasures: in SQLite, or in Kafka."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorestream.errors import InvalidEvent
from lorestream.free_space import FreeSpace
from lorestream.settings import DAY_S, Settings
from lorestream.settings.backends import EmbeddedLog, KafkaLog, plain
from lorestream.wiring.data_directory import free_space

if TYPE_CHECKING:
    from lorestream.adapters.kafka.connection import KafkaConnection
    from lorestream.ports import Clock, ErasureLedger, EventLog, OnLost

INDEXER = "indexer"
"""The consumer group of the embedded store."""


@dataclass(frozen=True, slots=True)
class OpenLog:
    """An open event log, and what belongs to it."""

    events: EventLog
    ledger: ErasureLedger
    trim: Callable[[], Awaitable[int]] | None
    """Removes records past their retention and returns their number. None: the log does that itself."""
    last_accepted_at: float
    """The newest acceptance time in the log, Unix seconds; new events are never accepted earlier."""
    identity: str
    """Identifies this log across deletions. A new log starts at offset 0, and must not find the old watermarks or rows."""


async def open_log(
    settings: Settings,
    state: Path,
    clock: Clock,
    stack: contextlib.AsyncExitStack,
    on_lost: OnLost | None = None,
) -> OpenLog:
    """Open the event log and the ledger of erasures. `state` is the directory of the embedded log.

    `on_lost` counts records that were deleted before they were read.
    """
    match settings.log:
        case EmbeddedLog() as embedded:
            return await _open_embedded_log(
                embedded, state, clock, stack, on_lost=on_lost, space=free_space(settings, state)
            )
        case KafkaLog() as kafka:
            return await _open_kafka_log(kafka, clock, stack, on_lost)


async def _open_embedded_log(
    chosen: EmbeddedLog,
    state: Path,
    clock: Clock,
    stack: contextlib.AsyncExitStack,
    *,
    on_lost: OnLost | None,
    space: FreeSpace,
) -> OpenLog:
    from lorestream import events  # noqa: PLC0415
    from lorestream.adapters.sqlite.database import Database  # noqa: PLC0415
    from lorestream.adapters.sqlite.erasure_ledger import SqliteErasureLedger  # noqa: PLC0415
    from lorestream.adapters.sqlite.log import SqliteLog  # noqa: PLC0415

    database = await stack.enter_async_context(Database.open(state / "log.sqlite3"))
    ledger = await SqliteErasureLedger.open(database, clock=clock)
    log = await stack.enter_async_context(
        SqliteLog.open(
            database,
            retention_s=chosen.retention_days * DAY_S,
            max_bytes=chosen.max_bytes,
            clock=clock,
            on_lost=on_lost,
            require_space=space.require,
        )
    )
    last = await log.last()
    floor = 0.0
    if last is not None:
        # Imported events were accepted long ago, and a retried record may be undecodable: use the time of the append too.
        floor = last.appended_at
        with contextlib.suppress(InvalidEvent):
            floor = max(floor, events.decode(last).accepted_at)

    async def trim() -> int:
        return await log.trim() + await ledger.trim()

    return OpenLog(log, ledger, trim, floor, await database.identity())


def kafka_connection(chosen: KafkaLog) -> KafkaConnection:
    """The connection settings of the brokers. Does not connect."""
    from lorestream.adapters.kafka.connection import KafkaConnection  # noqa: PLC0415

    return KafkaConnection(
        bootstrap=chosen.bootstrap,
        security_protocol=chosen.security_protocol,
        sasl_mechanism=chosen.sasl_mechanism,
        sasl_username=chosen.sasl_username,
        sasl_password=plain(chosen.sasl_password),
        ssl_cafile=chosen.ssl_cafile,
        ssl_certfile=chosen.ssl_certfile,
        ssl_keyfile=chosen.ssl_keyfile,
    )


async def _open_kafka_log(
    chosen: KafkaLog, clock: Clock, stack: contextlib.AsyncExitStack, on_lost: OnLost | None
) -> OpenLog:
    from lorestream.adapters.kafka.consumer import ConsumerConfig  # noqa: PLC0415
    from lorestream.adapters.kafka.erasure_ledger import KafkaErasureLedger  # noqa: PLC0415
    from lorestream.adapters.kafka.log import KafkaLog as Log  # noqa: PLC0415
    from lorestream.adapters.kafka.topics import cluster_id  # noqa: PLC0415

    connection = kafka_connection(chosen)
    log = await stack.enter_async_context(
        Log.open(
            connection,
            topic=chosen.topic,
            dlq_topic=chosen.dlq_topic,
            retention_s=chosen.retention_days * DAY_S,
            clock=clock,
            partitions=chosen.partitions,
            replication=chosen.replication,
            consumer_config=ConsumerConfig(
                session_timeout_s=chosen.session_timeout_s, static_member=chosen.member
            ),
            on_lost=on_lost,
        )
    )
    ledger = await stack.enter_async_context(
        KafkaErasureLedger.open(connection, topic=chosen.erasures_topic, replication=chosen.replication)
    )
    identity = f"{await cluster_id(connection)}/{chosen.topic}"
    return OpenLog(log, ledger, trim=None, last_accepted_at=0.0, identity=identity)


def group_of(log: EmbeddedLog | KafkaLog, collection: str, run: str) -> str:
    """The name of the consumer group of a collection. Each collection has its own, and so its own position in the log.

    `run` identifies the replay that created the collection: a name that is used again starts at the beginning.
    """
    if isinstance(log, EmbeddedLog):
        return f"{INDEXER}.{collection}.{run}" if run else INDEXER
    return ".".join([log.group_prefix, collection, *([run] if run else [])])
