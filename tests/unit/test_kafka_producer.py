"""A Kafka producer that fails is replaced, whatever it fails with."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lorestream.adapters.kafka.appender import KafkaAppender
from lorestream.adapters.kafka.producer import Producer


class Failing:
    """A producer of aiokafka that can neither send nor stop."""

    def __init__(self) -> None:
        self._sender = self._message_accumulator = self

    async def close(self) -> None:
        """Of `_sender`."""
        raise OSError("the connection is gone")

    def fail_all(self, _error: object) -> None:
        """Of `_message_accumulator`."""

    async def stop(self) -> None:
        raise OSError("the connection is gone")


async def test_a_producer_that_cannot_be_stopped_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    fake: Any = Failing()
    unused: Any = None
    old, new = Producer(fake, "events", partitions=1), Producer(fake, "events", partitions=1)

    async def start(*_: object) -> Producer:
        return new

    monkeypatch.setattr(Producer, "start", start)
    appender = KafkaAppender(unused, "events", producer=old, max_record_bytes=1000, queue_bytes=1000)
    sending: Any = asyncio.ensure_future(asyncio.Event().wait())
    old._sending.add(sending)
    appender._replace_producer(old, "it failed")
    assert appender._replacement is not None
    await appender._replacement
    assert appender._producer is new
    await asyncio.wait({sending})
    assert sending.cancelled()
