"""What the gateway takes in: whole requests through the ASGI app, into a real log that syncs to the disk.

In process and without sockets: what uvicorn costs comes on top, and is measured with the whole system.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lorestream.http.application import application
from lorestream.settings import load_settings
from lorestream.telemetry import set_up_logging
from lorestream.wiring import GatewayParts, open_runtime
from producers.gateway import Gateway, operations

BATCH = 200
BATCHES = 300
CONCURRENT = 4


def measure_gateway() -> dict[str, Any]:
    """Events per second of wall and of CPU time, in batches of 200 from 4 producers, every one durable."""
    set_up_logging("json", "warning")
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> dict[str, Any]:
    chosen = {"embedder": {"kind": "hash"}, "store": {"kind": "memory"}, "player_key": "k1:bench"}
    async with open_runtime(load_settings(data_dir=folder, **chosen)) as runtime:
        return await drive(runtime)


async def drive(parts: GatewayParts) -> dict[str, Any]:
    """The figures of a gateway on these parts, whose log is empty."""
    app = application("gateway", operations(Gateway.over(parts)), metrics=parts.metrics)
    bodies = [_body(number) for number in range(BATCHES)]
    await _send(app, _body(BATCHES))
    waiting = iter(bodies)
    latencies: list[float] = []
    started, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENT):
            group.create_task(_produce(app, waiting, latencies))
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    events = BATCH * BATCHES
    assert sum((await parts.log.end()).values()) == events + BATCH, "not every event reached the log"
    latencies.sort()
    return {
        "events_per_s": round(events / wall_s),
        "events_per_cpu_s": round(events / cpu_s),
        "cpu_us_per_event": round(1e6 * cpu_s / events, 1),
        "batch_p50_ms": round(1e3 * latencies[len(latencies) // 2], 2),
        "batch_p99_ms": round(1e3 * latencies[len(latencies) * 99 // 100], 2),
        "bytes_per_event": len(bodies[0]) // BATCH,
    }


async def _produce(app: Any, bodies: Iterator[bytes], latencies: list[float]) -> None:
    for body in bodies:
        began = time.perf_counter()
        await _send(app, body)
        latencies.append(time.perf_counter() - began)


def _body(batch: int) -> bytes:
    """Events of the shape that the Luanti mod sends, numbers as Lua writes them."""
    events = [
        {
            "id": f"boot:{batch}:{number}",
            "agent_id": f"player:player{number % 40}",
            "type": "dig",
            "data": {"node": "default:tree", "count": 3.0, "tool": "default:axe_steel"},
            "player": f"player{number % 40}",
            "pos": {"x": 12.0 + number, "y": 3.0, "z": -40.0},
            "tick": 8412.0,
            "time": 1760000000.0 + batch,
            "metadata": None,
        }
        for number in range(BATCH)
    ]
    return json.dumps({"server": "survival-1", "events": events}).encode()


async def _send(app: Any, body: bytes) -> None:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/events",
        "raw_path": b"/v1/events",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
    }
    answered: dict[str, Any] = {}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        answered.update(message)

    await app(scope, receive, send)
    assert answered["status"] == 202, answered
    assert b'"rejected":[]' in answered["body"], answered["body"][:500]


if __name__ == "__main__":
    print(json.dumps(measure_gateway(), indent=2))
