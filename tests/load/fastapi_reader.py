"""What the bench compares the query service with: a FastAPI service that answers from the same Redis.

Written as FastAPI's users write one. It knows nothing but the look-up: no keys, no limits, no metrics, no store.

Run: `python -m tests.load.fastapi_reader PORT REDIS_URL`.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from redis.asyncio import Redis

GENERATION_BYTES = 16


class Near(BaseModel):
    model_config = ConfigDict(extra="forbid")

    radius: float = Field(ge=0)
    x: float | None = None
    y: float | None = None
    z: float | None = None


class Search(BaseModel):
    model_config = ConfigDict(extra="forbid")

    agent_id: str = Field(min_length=1, max_length=256)
    query: str | None = Field(None, min_length=1, max_length=8192)
    k: int = Field(5, ge=1, le=100)
    filters: dict[str, Any] | None = None
    near: Near | None = None
    mode: Literal["dense", "keyword", "hybrid"] = "dense"
    min_score: float | None = None
    explain: bool = False


class Memory(BaseModel):
    id: str
    agent_id: str
    text: str
    type: str | None
    metadata: dict[str, Any]
    pos: dict[str, float] | None
    tick: float | None
    timestamp: float
    importance: float
    server: str
    player: str | None
    accepted_at: float
    expires_at: float | None
    truncated: bool
    score: float


class Answer(BaseModel):
    memories: list[Memory]
    cache: Literal["hit", "miss", "off"]
    fresh: bool
    took_ms: float


_memories = TypeAdapter(list[Memory])


def name_of(agent_id: str) -> str:
    """The hash of an agent."""
    return f"fastapi:{agent_id}"


def field_of(search: Search) -> bytes:
    """Where the answer to a search lies in it."""
    asked = json.dumps(search.model_dump(), sort_keys=True)
    return hashlib.blake2b(asked.encode(), digest_size=16).digest()


def application(redis: Redis) -> FastAPI:
    app = FastAPI()

    async def look_up(search: Search) -> bytes:
        generation, entry = await redis.hmget(name_of(search.agent_id), ["g", field_of(search)])
        if entry is None or not entry.startswith(generation):
            raise HTTPException(404, "the benchmark asks for what is kept")
        return entry[GENERATION_BYTES:]

    @app.post("/v1/memories/search")
    async def models(search: Search) -> Answer:
        """With models all the way, as the tutorial has it."""
        started = time.perf_counter()
        memories = _memories.validate_json(await look_up(search))
        took_ms = 1000 * (time.perf_counter() - started)
        return Answer(memories=memories, cache="hit", fresh=True, took_ms=took_ms)

    @app.post("/bytes")
    async def encoded(search: Search) -> Response:
        """The kept bytes as they are, as one writes who has measured."""
        started = time.perf_counter()
        kept = await look_up(search)
        took_ms = 1000 * (time.perf_counter() - started)
        tail = b',"cache":"hit","fresh":true,"took_ms":%.3f}' % took_ms
        return Response(b'{"memories":' + kept + tail, media_type="application/json")

    return app


def main() -> None:
    port, url = int(sys.argv[1]), sys.argv[2]
    # uvloop and httptools are installed, so that uvicorn takes them; the access log would cost it a tenth.
    uvicorn.run(application(Redis.from_url(url)), port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
