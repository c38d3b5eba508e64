"""Checks of the servers of the distributed shape for `lorestream doctor`: Kafka, Qdrant and its words, Redis, the player key."""

# ruff: noqa: PLC0415 (help must be instant)

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from lorestream.cli.doctor.checks import Check, Verdict, words
from lorestream.errors import LorestreamError, Unavailable
from lorestream.settings import Settings
from lorestream.settings.backends import KafkaLog, QdrantStore, RedisCache

CHECK_TIMEOUT_S = 5.0


def checks(settings: Settings) -> Sequence[Check]:
    """Check each server that the settings name. Blocks for up to `CHECK_TIMEOUT_S` seconds for each."""
    return asyncio.run(_checks(settings))


async def _checks(settings: Settings) -> list[Check]:
    found: list[Check] = []
    if isinstance(log := settings.log, KafkaLog):
        found.append(
            await _within("kafka", lambda: _kafka(log), "start the broker, or set LORESTREAM_LOG__BOOTSTRAP")
        )
        found.append(_player_key(settings))
    if isinstance(store := settings.store, QdrantStore):
        found.append(
            await _within("qdrant", lambda: _qdrant(store), "start Qdrant, or set LORESTREAM_STORE__URL")
        )
        if found[-1].verdict is Verdict.OK:
            found.append(await _within("words", lambda: _words(settings, store), "start Qdrant"))
    if isinstance(cache := settings.cache, RedisCache):
        found.append(
            await _within("redis", lambda: _redis(cache), "start Redis, or set LORESTREAM_CACHE__URL")
        )
    return found


async def _within(name: str, check: Callable[[], Awaitable[Check]], fix: str) -> Check:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check()
    except TimeoutError:
        return Check(name, Verdict.FAILED, f"no answer within {CHECK_TIMEOUT_S:.0f} s", fix)
    except Unavailable as error:
        return Check(name, Verdict.FAILED, error.message, fix)
    except LorestreamError as error:
        return Check(name, Verdict.FAILED, str(error), "change the settings as the message says")


async def _kafka(chosen: KafkaLog) -> Check:
    from lorestream.adapters.kafka.topics import partitions_of
    from lorestream.wiring.logs import kafka_connection

    names = (chosen.topic, chosen.erasures_topic, chosen.dlq_topic)
    partitions = await partitions_of(kafka_connection(chosen))
    missing = [name for name in names if name not in partitions]
    evidence = f"{chosen.bootstrap} answers; {chosen.topic} has {partitions.get(chosen.topic, 0)} partitions"
    if missing:
        return Check(
            "kafka",
            Verdict.WARNING,
            f"{chosen.bootstrap} answers; topics that do not exist yet: {', '.join(missing)}",
            "nothing to do: the first gateway, worker or query service creates them",
        )
    return Check("kafka", Verdict.OK, evidence)


async def _redis(chosen: RedisCache) -> Check:
    from lorestream.adapters.redis.client import RedisClient

    async with RedisClient.open(chosen.url.get_secret_value(), prefix=chosen.prefix) as redis:
        await redis.command("PING")
        try:
            found = {
                name: (await redis.command("CONFIG", "GET", name))[1].decode()
                for name in ("save", "appendonly", "maxmemory-policy", "maxmemory")
            }
        except Unavailable:  # many servers do not allow CONFIG
            return Check(
                "redis",
                Verdict.WARNING,
                "answers, but does not allow CONFIG GET: its configuration is unknown",
                _REDIS_FIX,
            )
    evidence = ", ".join(f"{name} {value or '-'}" for name, value in found.items())
    if found["save"] or found["appendonly"] == "yes":
        return Check(
            "redis",
            Verdict.FAILED,
            f"{evidence}: after a restart, outdated answers would be served from its disk",
            "redis-cli CONFIG SET save '' and CONFIG SET appendonly no, and in its configuration file",
        )
    if found["maxmemory-policy"] != "allkeys-lru" or found["maxmemory"] == "0":
        return Check("redis", Verdict.WARNING, evidence, _REDIS_FIX)
    return Check("redis", Verdict.OK, evidence)


_REDIS_FIX = "set save '', appendonly no, maxmemory, and maxmemory-policy allkeys-lru in its configuration"


async def _qdrant(chosen: QdrantStore) -> Check:
    from lorestream.wiring.stores import searched_collections

    async with contextlib.AsyncExitStack() as stack:
        searched = await (await searched_collections(chosen, stack)).read_alias()
    if not searched:
        return Check(
            "qdrant",
            Verdict.WARNING,
            f"{chosen.url} answers; {chosen.collection} does not exist yet",
            "nothing to do: the first worker or query service creates it",
        )
    return Check(
        "qdrant", Verdict.OK, f"{chosen.url} answers; {chosen.collection} is an alias of {searched[0][0]}"
    )


async def _words(settings: Settings, chosen: QdrantStore) -> Check:
    from lorestream.wiring.stores import served_word_layout

    return words(await served_word_layout(settings, chosen))


def _player_key(settings: Settings) -> Check:
    if settings.player_key is None:
        return Check(
            "player key",
            Verdict.FAILED,
            "not set: gateways and query services will not start",
            "set LORESTREAM_PLAYER_KEY=k1:$(openssl rand -hex 32), the same for all services, or LORESTREAM_PLAYER_KEY_FILE",
        )
    return Check("player key", Verdict.OK, "set")
