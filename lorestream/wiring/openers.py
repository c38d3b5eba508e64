"""Openers: for each port, from the settings of a backend to an open adapter. Here all but the log and the store.

Adapters are imported where they are chosen, so that a process loads only what it uses. What is opened is closed by the
exit stack that is passed in, or by its own context. All openers raise Misconfigured with one line that says what to do,
and Unavailable if a server does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from lorestream.collections.open_collections import GroupWatermarks
from lorestream.errors import Misconfigured
from lorestream.settings import Settings
from lorestream.settings.backends import EmbedderSettings, RedisCache, plain

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from lorestream.access.authentication import Authenticator
    from lorestream.access.rate_limits import RateLimits
    from lorestream.adapters.embedders.openvino import OpenVinoEmbedder
    from lorestream.adapters.embedders.reranker import LocalReranker
    from lorestream.adapters.embedders.torch import TorchEmbedder
    from lorestream.adapters.redis.client import RedisClient
    from lorestream.ports import AccessTimes, Cache, Clock, Embedder, Reranker
    from lorestream.telemetry import Metrics
    from lorestream.wiring.logs import OpenLog


async def open_embedder(
    chosen: EmbedderSettings, models_dir: Path, metrics: Metrics, stack: contextlib.AsyncExitStack
) -> Embedder:
    """Load the embedding model, with its library, in a thread: that takes half a second and more.

    Counts its texts in `metrics`.
    """

    def count(source: str, texts: int) -> None:
        metrics.embed_texts.labels(source).inc(texts)

    match chosen.kind:
        case "auto" | "openvino":

            def load_openvino() -> OpenVinoEmbedder:
                from lorestream.adapters.embedders import model_files  # noqa: PLC0415
                from lorestream.adapters.embedders.openvino import OpenVinoEmbedder  # noqa: PLC0415

                model = model_files.find(chosen.model, models_dir)
                return OpenVinoEmbedder.open(
                    model.directory,
                    threads=chosen.threads,
                    device=chosen.device or "CPU",
                    precision=chosen.precision,
                    on_texts=count,
                )

            return await stack.enter_async_context(await asyncio.to_thread(load_openvino))
        case "torch":

            def load_torch() -> TorchEmbedder:
                from lorestream.adapters.embedders.torch import TorchEmbedder  # noqa: PLC0415

                return TorchEmbedder.open(
                    chosen.model,
                    device=chosen.device,
                    threads=chosen.threads,
                    precision=chosen.precision,
                    on_texts=count,
                )

            return await stack.enter_async_context(await asyncio.to_thread(load_torch))
        case "http":
            from lorestream.adapters.embedders.http import HttpEmbedder  # noqa: PLC0415
            from lorestream.adapters.embedders.prefixes import Prefixes  # noqa: PLC0415

            if chosen.url is None:
                raise Misconfigured(
                    "LORESTREAM_EMBEDDER__URL: kind http needs the address of the server, such as http://127.0.0.1:8000/v1"
                )
            remote = HttpEmbedder.open(
                url=chosen.url,
                model=chosen.model,
                api_key=plain(chosen.api_key),
                dim=chosen.dim,
                prefixes=Prefixes(chosen.query_prefix, chosen.passage_prefix),
                on_texts=count,
            )
            return await stack.enter_async_context(remote)
        case "hash":
            from lorestream.adapters.embedders.hash import HashEmbedder  # noqa: PLC0415

            return await stack.enter_async_context(HashEmbedder(chosen.dim or 384, on_texts=count))


async def open_cross_encoder(settings: Settings, stack: contextlib.AsyncExitStack) -> Reranker | None:
    """Load the cross-encoder of the settings, in a thread; None without one."""
    chosen = settings.reranker
    if chosen.model is None:
        return None
    from lorestream.adapters.embedders import cross_encoder, model_files  # noqa: PLC0415

    name = chosen.model

    def load() -> LocalReranker:
        files = model_files.find(name, settings.models_dir)
        return cross_encoder.open_cross_encoder(
            files.directory, threads=chosen.threads, device=chosen.device or "CPU"
        )

    return await stack.enter_async_context(await asyncio.to_thread(load))


async def open_redis(settings: Settings, stack: contextlib.AsyncExitStack) -> RedisClient | None:
    """Open the Redis connection for cache, watermarks and rate limits. None without Redis in the settings."""
    chosen = settings.cache
    if not isinstance(chosen, RedisCache):
        return None
    from lorestream.adapters.redis.client import RedisClient  # noqa: PLC0415

    return await stack.enter_async_context(
        RedisClient.open(chosen.url.get_secret_value(), prefix=chosen.prefix)
    )


def new_cache(settings: Settings, redis: RedisClient | None) -> Cache | None:
    """The answer cache: in Redis, in the process, or None."""
    chosen = settings.cache
    if redis is not None:
        from lorestream.adapters.redis.cache import RedisCache as Shared  # noqa: PLC0415

        return Shared(redis)
    if isinstance(chosen, RedisCache) or chosen.kind == "off":
        return None
    from lorestream.adapters.in_process.cache import LocalCache  # noqa: PLC0415

    return LocalCache(max_entries=chosen.max_entries, max_bytes=chosen.max_bytes)


def new_access_times(redis: RedisClient | None) -> AccessTimes:
    """The times at which memories were last returned: in Redis, shared by all query services, or in the process."""
    if redis is not None:
        from lorestream.adapters.redis.accesses import RedisAccessTimes  # noqa: PLC0415

        return RedisAccessTimes(redis)
    from lorestream.adapters.in_process.accesses import LocalAccessTimes  # noqa: PLC0415

    return LocalAccessTimes()


def new_limits(settings: Settings, redis: RedisClient | None) -> RateLimits:
    """The rate limits. With Redis, all services share the counts."""
    from lorestream.access.rate_limits import RateLimits  # noqa: PLC0415

    shared = None
    if redis is not None:
        from lorestream.adapters.redis.token_buckets import RedisTokenBuckets  # noqa: PLC0415

        shared = RedisTokenBuckets(redis)
    return RateLimits(**settings.limits.model_dump(), shared=shared)


@contextlib.asynccontextmanager
async def open_watermarks(
    settings: Settings, log: OpenLog, group: str, redis: RedisClient | None
) -> AsyncGenerator[GroupWatermarks]:
    """The watermarks of a consumer group: published in Redis where there is one, else the committed offsets."""
    if not settings.distributed:
        from lorestream.adapters.in_process.watermarks import LocalWatermarks  # noqa: PLC0415

        local = LocalWatermarks()
        yield GroupWatermarks(local, local)
    elif redis is not None:
        from lorestream.adapters.redis.watermarks import RedisWatermarks  # noqa: PLC0415

        async with RedisWatermarks.open(
            redis, group=group, identity=log.identity, committed=lambda: log.events.committed(group)
        ) as shared:
            yield GroupWatermarks(shared, shared)
    else:
        from lorestream.adapters.kafka.watermarks import KafkaWatermarks  # noqa: PLC0415

        yield GroupWatermarks(KafkaWatermarks(log.events, group=group), None)


async def open_authenticator(
    settings: Settings, clock: Clock, stack: contextlib.AsyncExitStack
) -> Authenticator:
    """The authenticator: API keys from the file in the settings; without a file, every caller is allowed."""
    from lorestream.access.authentication import NO_AUTHENTICATION  # noqa: PLC0415

    if settings.api_keys_file is None:
        return NO_AUTHENTICATION
    from lorestream.access.authentication import ApiKeyAuthenticator  # noqa: PLC0415

    return await stack.enter_async_context(ApiKeyAuthenticator.open(settings.api_keys_file, clock))
