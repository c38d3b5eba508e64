"""RedisClient: what is refused at the start, outages, the circuit breaker, TLS, the shared connection."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

import pytest
from redis import Redis
from structlog.testing import capture_logs

from deploy.local.process import free_port, program
from deploy.local.redis_server import RedisServer
from lorestream.adapters.redis.cache import RedisCache
from lorestream.adapters.redis.client import CircuitBreaker, RedisClient
from lorestream.errors import Misconfigured, Unavailable
from lorestream.memories import AgentKey
from tests.brokers import missing_is_skipped, running
from tests.own_time import own_time

AGENT = AgentKey("default", "npc:woodcutter")
PATIENT = {"prefix": "t", "try_timeout_s": 10, "command_timeout_s": 10}
"""For calls that must succeed: a busy machine may delay a reply beyond the default timeouts."""


async def refusal(url: str) -> str:
    with pytest.raises(Misconfigured, match="LORESTREAM_CACHE__URL") as caught:
        async with RedisClient.open(url, prefix="t"):
            pass
    return str(caught.value)


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://localhost", "redis://:se:cret@host:port/0"])
async def test_an_invalid_address_is_refused_without_showing_it(url: str) -> None:
    message = await refusal(url)
    assert "redis://" in message
    assert "cret" not in message


async def test_a_wrong_or_missing_password_is_refused(tmp_path: Path) -> None:
    with running(RedisServer(tmp_path / "redis", password="right")) as server:
        assert "password" in await refusal(server.url.replace("right", "wrong"))
        assert "password" in await refusal(server.url.replace(":right@", ""))
        async with RedisClient.open(server.url, **PATIENT) as client:
            assert await client.try_command("PING")


async def test_a_server_that_is_not_a_redis_is_refused() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert "not a Redis" in await refusal(f"redis://127.0.0.1:{port}")


async def test_an_acl_for_the_own_keys_and_commands_is_enough(own_redis: RedisServer) -> None:
    with Redis.from_url(own_redis.url) as raw:
        commands = "hmget hgetall evalsha eval hsetnx hget hset hdel hkeys hlen hexists pexpire unlink scan"
        raw.acl_setuser(
            "lorestream",
            enabled=True,
            passwords=["+pw"],
            keys=["t:*"],
            commands=[f"+{c}" for c in commands.split()],
        )
        raw.acl_setuser("nobody", enabled=True, passwords=["+pw"])
    address = own_redis.url.removeprefix("redis://")
    assert "ACL" in await refusal(f"redis://nobody:pw@{address}")
    async with RedisClient.open(f"redis://lorestream:pw@{address}", **PATIENT) as client:
        cache = RedisCache(client)
        _, generation = await cache.get(AGENT, b"where")
        await cache.put(AGENT, b"where", b"by the river", generation, 60)
        assert (await cache.get(AGENT, b"where"))[0] == b"by the river"
        await cache.invalidate([AGENT])
        await cache.clear()


async def test_a_redis_that_is_down_at_start_may_come_later(own_redis: RedisServer) -> None:
    own_redis.stop()
    async with RedisClient.open(own_redis.url, breaker_open_s=0.05, **PATIENT) as client:
        with pytest.raises(Unavailable):
            await client.try_command("PING")
        with pytest.raises(Unavailable):
            await client.command("PING")
        own_redis.start()
        await asyncio.sleep(0.1)
        assert await client.try_command("PING")


async def test_a_frozen_redis_delays_a_start_only_briefly(own_redis: RedisServer) -> None:
    own_redis.pause()
    began = own_time()
    async with RedisClient.open(own_redis.url, prefix="t"):
        assert own_time() - began < 5


async def test_an_unreachable_address_is_an_outage() -> None:
    async with RedisClient.open(f"redis://127.0.0.1:{free_port()}") as client:
        with pytest.raises(Unavailable):
            await client.try_command("PING")


async def test_a_timeout_of_a_blocked_process_does_not_open_the_breaker(own_redis: RedisServer) -> None:
    async with RedisClient.open(own_redis.url, prefix="t", try_timeout_s=0.05, breaker_open_s=3600) as client:
        calls = [asyncio.ensure_future(client.try_command("PING")) for _ in range(5)]
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 (that is the fault)
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert [str(error) for error in errors] == ["Redis did not answer within 50 ms"] * 5
        assert client._breakers[None].try_admit()


async def test_after_a_failure_best_effort_calls_fail_at_once_and_commands_do_not(
    own_redis: RedisServer,
) -> None:
    async with RedisClient.open(
        own_redis.url, prefix="t", command_timeout_s=10, breaker_open_s=3600
    ) as client:
        own_redis.pause()
        with pytest.raises(Unavailable, match="80 ms"):
            await client.try_command("PING")
        while client._breakers[
            None
        ].try_admit():  # a timeout that a busy machine notices late does not open it
            with pytest.raises(Unavailable):
                await client.try_command("PING")
        own_redis.resume()
        with pytest.raises(Unavailable, match="a moment ago"):
            await client.try_command("PING")
        assert await client.command("PING")


def test_the_breaker_admits_one_probe_after_its_open_time() -> None:
    at = 0.0
    breaker = CircuitBreaker(1.0, monotonic=lambda: at)
    assert [breaker.try_admit() for _ in range(3)] == [True] * 3
    breaker.failure()
    assert not breaker.try_admit()
    at += 1.0
    assert [breaker.try_admit() for _ in range(3)] == [True, False, False]
    breaker.failure()
    at += 0.9
    assert not breaker.try_admit()
    at += 0.2
    assert breaker.try_admit()
    breaker.success()
    assert [breaker.try_admit() for _ in range(3)] == [True] * 3


def test_a_probe_that_never_ends_does_not_block_the_next_probe() -> None:
    at = 0.0
    breaker = CircuitBreaker(1.0, monotonic=lambda: at)
    breaker.failure()
    at += 1.0
    assert breaker.try_admit()
    at += 1.0
    assert breaker.try_admit()


async def test_the_database_of_the_address_is_used(own_redis: RedisServer) -> None:
    third = own_redis.url.removesuffix("/0") + "/3"
    async with RedisClient.open(third, **PATIENT) as client:
        await RedisCache(client).get(AGENT, b"where")
    with Redis.from_url(own_redis.url) as raw:
        assert raw.dbsize() == 0
    with Redis.from_url(third) as raw:
        assert raw.dbsize() == 1


def self_signed(folder: Path) -> tuple[Path, Path]:
    with missing_is_skipped():
        program("openssl", "apt-get install -y openssl")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate


async def test_over_tls_only_a_trusted_certificate_is_accepted(tmp_path: Path) -> None:
    key, certificate = self_signed(tmp_path)
    port = free_port()

    class Encrypted(RedisServer):
        def command(self) -> list[str]:
            tls = ["--tls-port", str(port), "--tls-auth-clients", "no"]
            return [*super().command(), *tls, "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]

    with running(Encrypted(tmp_path / "redis")):
        url = f"rediss://127.0.0.1:{port}/0"
        async with RedisClient.open(f"{url}?ssl_ca_certs={certificate}", **PATIENT) as client:
            assert await client.try_command("HGETALL", "t:nothing") == []
        async with RedisClient.open(url, **PATIENT) as client:
            with pytest.raises(Unavailable):
                await client.try_command("HGETALL", "t:nothing")


async def test_an_error_reply_does_not_affect_the_next_commands(own_redis: RedisServer) -> None:
    async with RedisClient.open(own_redis.url, **PATIENT) as client:
        calls = [
            client.try_command("HGETALL", "t:x"),
            client.try_command("NONSENSE"),
            client.try_command("HMGET", "t:x", "g"),
        ]
        first, refused, last = await asyncio.gather(*calls, return_exceptions=True)
        assert (first, last) == ([], [None])
        assert isinstance(refused, Unavailable)


def open_sockets() -> int:
    return sum(link.is_socket() for link in Path("/proc/self/fd").iterdir())


async def test_a_redis_that_returns_with_another_password_costs_no_socket_per_call(tmp_path: Path) -> None:
    with running(RedisServer(tmp_path / "redis", password="one")) as server, capture_logs() as logs:
        async with RedisClient.open(server.url, breaker_open_s=0.0, **PATIENT) as client:
            assert await client.try_command("PING")
            server.stop()
            server.password = "two"
            server.start()
            before = open_sockets()
            for _ in range(20):
                with pytest.raises(Unavailable, match="refused the login"):
                    await client.try_command("PING")
            await asyncio.sleep(0)  # an aborted connection is closed in the next iteration
            assert open_sockets() <= before
        async with RedisClient.open(server.url.replace("one", "two"), **PATIENT) as client:
            client._shared._pool.connection_kwargs["password"] = "one"
            with pytest.raises(Unavailable, match="refused the login"):
                await client.try_command("PING")
            with pytest.raises(Unavailable, match="a moment ago"):  # the breaker is open
                await client.try_command("PING")
    assert [line["log_level"] for line in logs] == ["warning", "warning"]  # one of each client
