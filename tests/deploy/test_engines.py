"""The local Kafka and Redis that other tests use: start, persistence, eviction, freezing, error messages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.asyncio import Redis

from deploy.local.kafka import KafkaBroker
from deploy.local.process import NotInstalled, NotReady, program
from deploy.local.redis_server import RedisServer
from tests.brokers import running


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker of these tests, to kill and freeze."""
    with running(KafkaBroker(tmp_path_factory.mktemp("kafka"))) as started:
        yield started


async def create(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    await admin.close()


async def send(bootstrap: str, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    await producer.send_and_wait(topic, value)
    await producer.stop()


async def first(bootstrap: str, topic: str, group: str) -> bytes | None:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        session_timeout_ms=1000,
    )
    await consumer.start()
    async with asyncio.timeout(20):
        record = await consumer.getone()
    await consumer.stop()
    return record.value


async def test_a_killed_broker_keeps_its_records(broker):
    await create(broker.bootstrap, "kept")
    await send(broker.bootstrap, "kept", b"one")
    broker.kill()
    broker.start()
    assert await first(broker.bootstrap, "kept", "after the kill") == b"one"


async def test_a_frozen_broker_continues_after_it_is_resumed(broker):
    await create(broker.bootstrap, "frozen")
    broker.pause()
    waiting = asyncio.create_task(send(broker.bootstrap, "frozen", b"late"))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    broker.resume()
    await asyncio.wait_for(waiting, 20)
    broker.pause()
    broker.stop()
    assert not broker.alive


async def test_the_broker_does_not_create_topics_automatically(kafka, unique):
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, request_timeout_ms=2000)
    await producer.start()
    with pytest.raises(Exception, match=r"(?i)topic"):
        await asyncio.wait_for(producer.send_and_wait(unique, b"nobody made me"), 10)
    await producer.stop()


async def test_redis_does_not_persist_and_evicts(own_redis):
    async with Redis.from_url(own_redis.url) as client:
        await client.set("there", "1")
        assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "allkeys-lru"
        assert (await client.config_get("save"))["save"] == ""
        assert (await client.config_get("appendonly"))["appendonly"] == "no"
    own_redis.restart()
    async with Redis.from_url(own_redis.url) as client:
        assert await client.get("there") is None


async def test_redis_with_a_password_refuses_other_clients(tmp_path: Path, redis_server):
    assert redis_server.send_command("PING") == b"+PONG\r\n"
    with RedisServer(tmp_path, password="sesame") as server:
        assert server.send_command("PING") == b"+PONG\r\n"
        server.password = None
        assert server.send_command("PING").startswith(b"-NOAUTH")


def test_a_frozen_redis_does_not_answer(own_redis):
    own_redis.pause()
    assert own_redis.send_command("PING") == b""
    own_redis.resume()
    own_redis.wait_ready()


def test_a_process_that_ends_at_start_reports_why(tmp_path: Path):
    server = RedisServer(tmp_path, maxmemory="nonsense")
    with pytest.raises(NotReady, match=r"(?s)ended with 1.*maxmemory"):
        server.start()


def test_a_missing_program_is_reported_with_the_command_to_install_it():
    with pytest.raises(NotInstalled, match="apt-get install -y such-a-thing"):
        program("no-such-program", "apt-get install -y such-a-thing")
