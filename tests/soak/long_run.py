"""The long run: `python -m tests.soak.long_run --report FILE`. Ends with 1 if something is lost or heals too slowly.

The defaults are the whole run: a million events, 200 kills and 50 partitions in about 20 minutes. While developing:

    python -m tests.soak.long_run --events 5000 --kills 6 --partitions 3 --seconds 60 --report /tmp/report.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx2

from tests.soak.deployment import PARTITIONS, TENANTS, Deployment
from tests.soak.faults import Disk, Faults
from tests.soak.load import Load, canaries
from tests.soak.truth import compare, read_log, read_store

HEAL_S = 60.0
DRAIN_S = 600.0
BYTES_PER_EVENT = 1500
PROGRESS_S = 10.0
WRONG = ("lost", "doubled", "foreign", "undead", "changed")


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.long_run", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--partitions", type=int, default=50)
    parser.add_argument(
        "--seconds", type=float, default=1100.0, help="how long events and faults are spread over"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--directory", type=Path, help="data and logs (default: a temporary directory, removed)"
    )
    parser.add_argument("--report", type=Path, required=True, help="the JSON report")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    chosen = options(arguments)
    signal.signal(signal.SIGTERM, lambda signum, _frame: sys.exit(128 + signum))  # stops what was started
    with tempfile.TemporaryDirectory(prefix="lorestream-soak-") as temporary:
        report = run(chosen, chosen.directory or Path(temporary))
    chosen.report.write_text(json.dumps(report, indent=2) + "\n")
    print(
        json.dumps(
            {name: report[name] for name in ("result", "store", "heal_s", "faults", "seconds")}, indent=2
        )
    )
    return 0 if not report["failures"] else 1


def run(chosen: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Run it and return the report."""
    began = time.monotonic()
    disk = Disk(directory / "kafka" / "data", 2**29 + chosen.events * BYTES_PER_EVENT)
    try:
        with Deployment(directory) as deployment:
            return asyncio.run(_run(chosen, deployment, disk, began))
    finally:
        disk.close()


async def _run(
    chosen: argparse.Namespace, deployment: Deployment, disk: Disk, began: float
) -> dict[str, Any]:
    cluster = deployment.cluster
    load = Load(cluster.url, deployment.keys, events=chosen.events, seconds=chosen.seconds, seed=chosen.seed)
    faults = Faults(
        deployment,
        load.sent,
        disk,
        kills=chosen.kills,
        partitions=chosen.partitions,
        seconds=chosen.seconds,
        seed=chosen.seed,
    )
    loading = asyncio.create_task(load.run())
    faulting = threading.Thread(target=faults.run, daemon=True)
    faulting.start()
    try:
        await _watch(load, faults, faulting, loading, began)
    finally:
        faults.stop()
    load.ended.set()
    await loading
    return await _report(chosen, deployment, load, faults, began)


async def _watch(
    load: Load, faults: Faults, faulting: threading.Thread, loading: asyncio.Task[None], began: float
) -> None:
    """Print the progress until load and faults have ended."""
    counts = load.sent.counts
    next_line = time.monotonic()
    while not loading.done() and (faulting.is_alive() or counts["events"] < load.events):
        await asyncio.sleep(0.2)
        load.allowed = faults.begun if faulting.is_alive() else 1.0
        if time.monotonic() < next_line:
            continue
        next_line += PROGRESS_S
        print(
            f"{time.monotonic() - began:.0f} s: {counts['events']:,} events, {counts['retries']} retries,"
            f" {len(faults.all)} faults, {len(load.sent.canaries)} canaries",
            flush=True,
        )


async def _report(
    chosen: argparse.Namespace, deployment: Deployment, load: Load, faults: Faults, began: float
) -> dict[str, Any]:
    """Drain the log, compare, and sum up."""
    cluster = deployment.cluster
    drained_s = await _drain(deployment)
    checking = time.monotonic()
    log = await read_log(cluster.kafka.bootstrap)
    found = read_store(cluster.queries[0].url, deployment.keys, PARTITIONS)
    store = await asyncio.to_thread(compare, log, load.sent, found)
    healed = {id(fault): faults.healed_after(fault) for fault in faults.all}
    times = sorted(seconds for seconds in healed.values() if seconds is not None)
    slow = [
        asdict(fault) | {"healed_s": healed[id(fault)]}
        for fault in faults.all
        if (healed[id(fault)] or HEAL_S + 1) > HEAL_S
    ]
    failures = [f"{store[name]} {name}" for name in WRONG if store[name]]
    failures += [f"{len(slow)} faults healed later than {HEAL_S:.0f} s"] if slow else []
    failures += [f"refused: {one}" for one in load.sent.refusals[:10]]
    failures += [f"a fault failed: {one}" for one in faults.errors]
    failures += ["the log was not drained"] if drained_s is None else []
    return {
        "result": "passed" if not failures else "failed",
        "failures": failures,
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores ({_processor()}), Python {platform.python_version()}",
        "options": {name: str(value) for name, value in vars(chosen).items()},
        "seconds": {
            "in all": round(time.monotonic() - began),
            "draining the log": drained_s,
            "comparing": round(time.monotonic() - checking),
        },
        "sent": dict(load.sent.counts) | {"canary rounds": len(load.sent.canaries)},
        "log": dict(log.records),
        "store": store,
        "faults": dict(Counter(fault.kind for fault in faults.all)),
        "killed": dict(Counter(fault.what for fault in faults.all if fault.kind == "kill")),
        "cut": dict(Counter(fault.what for fault in faults.all if fault.kind in {"cut", "freeze"})),
        "notes": {f"{fault.kind} {fault.what}": fault.note for fault in faults.all if fault.note},
        "restarted by themselves": dict(faults.restarts),
        "heal_s": {
            "p50": _quantile(times, 0.5),
            "p95": _quantile(times, 0.95),
            "max": _quantile(times, 1.0),
            "limit": HEAL_S,
        },
        "slowest": sorted(
            ((round(healed[id(one)] or -1, 1), one.kind, one.what) for one in faults.all), reverse=True
        )[:10],
        "too slow": slow,
    }


async def _drain(deployment: Deployment) -> float | None:
    """Wait until every record is indexed; return the seconds that took, None after `DRAIN_S`."""
    began = time.monotonic()
    tenant = TENANTS[0]
    events = [{"agent_id": agent, "text": "the end", "ttl": 1} for agent in canaries(PARTITIONS)]
    async with httpx2.AsyncClient(base_url=deployment.cluster.url, timeout=70, trust_env=False) as client:
        while time.monotonic() - began < DRAIN_S:
            try:
                answer = await client.post(
                    "/v1/events?wait=indexed&timeout_ms=30000",
                    json={"server": "soak", "events": events},
                    headers={"Authorization": deployment.keys[tenant]},
                )
            except httpx2.TransportError:
                continue
            if answer.status_code == httpx2.codes.OK:
                return round(time.monotonic() - began, 1)
            await asyncio.sleep(0.5)
    return None


def _quantile(times: list[float], share: float) -> float | None:
    return round(times[min(len(times) - 1, int(share * len(times)))], 1) if times else None


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()
    )


if __name__ == "__main__":
    sys.exit(main())
