"""The load: numbered events of two tenants, sent in batches until each is accepted; and a canary that never stops.

Everything about an event follows from its number, so that a producer need not remember what it sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2
from aiokafka.partitioner import murmur2

from tests.soak.deployment import PARTITIONS, TENANTS

AGENTS = 880
NAMED = 20
"""Further agents, which are named after players."""
VISITORS = 997
"""Players of the events."""
BATCH = 250
SENDERS = 6
TIMEOUT_S = 20.0
BATCH_WAIT_MS = 10_000
CANARY_TTL_S = 15
CANARY_PAUSE_S = 0.5


def canaries(partitions: int) -> list[str]:
    """Agents of the first tenant, one for each partition of the log."""
    found: dict[int, str] = {}
    for number in itertools.count():
        agent = f"canary:{number}"
        key = json.dumps([TENANTS[0], agent], separators=(",", ":")).encode()
        found.setdefault((murmur2(key) & 0x7FFFFFFF) % partitions, agent)
        if len(found) == partitions:
            return list(found.values())
    raise AssertionError("unlimited numbers came to an end")


def tenant_of(number: int) -> str:
    return TENANTS[number % 2]


def agent_of(number: int) -> str:
    place = number * 7919 // 2 % (AGENTS + NAMED)
    return f"npc:{place}" if place < AGENTS else f"player:named{place - AGENTS}"


def numbers_of(batch: int) -> list[int]:
    """The numbers of a batch's events, all of one tenant: two batches share a range, one has the even numbers."""
    first = batch // 2 * 2 * BATCH + batch % 2
    return list(range(first, first + 2 * BATCH, 2))


def event(number: int, *, again: bool = False) -> dict[str, Any]:
    """Event `number`. `again`: with the same id and another content, which must not replace the first."""
    fields: dict[str, Any] = {
        "id": f"e{number}",
        "agent_id": agent_of(number),
        "type": "note",
        "text": f"event {number} of {tenant_of(number)}{' in other words' if again else ''}",
        "metadata": {"number": number},
    }
    if number % 10 in {2, 3}:
        fields["player"] = f"visitor{number % VISITORS}"
    if number % 50 == 7:
        fields["ttl"] = 20 + number % 40
    return fields


@dataclass
class Sent:
    """What the producers have sent, and what was answered."""

    accepted: dict[str, int] = field(default_factory=dict)
    """Memory id -> number of the event."""
    deleted: set[str] = field(default_factory=set)
    """Ids of memories whose deletion was accepted."""
    counts: Counter[str] = field(default_factory=Counter)
    refusals: list[str] = field(default_factory=list)
    """Answers that nobody may get: neither accepted, nor an outage."""
    canaries: list[tuple[float, float]] = field(default_factory=list)
    """Begin and end (monotonic seconds) of each round of the canary that wrote, waited and found."""


class Load:
    """Sends `events` events within about `seconds`, then ends. Runs in the event loop of `run`."""

    def __init__(self, url: str, keys: dict[str, str], *, events: int, seconds: float, seed: int) -> None:
        self.sent = Sent()
        self._url = url
        self._keys = keys
        self.events = events
        self._seconds = seconds
        self._seed = seed
        self.allowed = 1.0
        """The share of the events that may be sent by now. The faults raise it, so that each of them meets a load."""
        self._next = itertools.count()
        self._began = time.monotonic()
        self.ended = asyncio.Event()

    async def run(self) -> None:
        limits = httpx2.Limits(max_connections=64, keepalive_expiry=3)
        async with httpx2.AsyncClient(
            base_url=self._url, timeout=TIMEOUT_S, limits=limits, trust_env=False
        ) as client:
            canary = asyncio.create_task(self._canary(client))
            senders = [
                self._send_batches(client, random.Random(f"{self._seed} {sender}"))
                for sender in range(SENDERS)
            ]
            await asyncio.gather(*senders, self._erase(client))
            await self.ended.wait()
            canary.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await canary

    # --- events ----------------------------------------------------------------------------------------------

    async def _send_batches(self, client: httpx2.AsyncClient, chance: random.Random) -> None:
        """Send batches, each of one tenant; then repeat a few of their events and delete others."""
        while (first := next(self._next) * BATCH) < self.events:
            await self._wait_for_turn(first)
            numbers = numbers_of(first // BATCH)
            tenant = tenant_of(numbers[0])
            events = [event(number) for number in numbers]
            ids = await self._put(client, tenant, events)
            for number, memory_id in zip(numbers, ids, strict=True):
                self.sent.accepted[memory_id] = number
            self.sent.counts["events"] += len(numbers)
            gone = chance.sample(range(len(numbers)), k=len(numbers) // 100)
            for place in gone:
                body = {"agent_id": agent_of(numbers[place]), "memory_id": ids[place]}
                await self._post(client, tenant, "/v1/erasures", body)
                self.sent.deleted.add(ids[place])
                self.sent.counts["deletions"] += 1
            if chance.random() < 0.1:  # deleted ones among them, which must stay deleted
                again = [numbers[place] for place in gone] + chance.sample(numbers, k=5)
                await self._put(client, tenant, [event(number, again=True) for number in again])
                self.sent.counts["repeated"] += len(again)

    async def _wait_for_turn(self, first: int) -> None:
        due = self._began + self._seconds * first / self.events
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        while first > self.allowed * self.events:
            await asyncio.sleep(0.1)

    async def _put(self, client: httpx2.AsyncClient, tenant: str, events: list[dict[str, Any]]) -> list[str]:
        # Each sender waits for its batch: otherwise events could be accepted faster than they are indexed.
        path = f"/v1/events?wait=indexed&timeout_ms={BATCH_WAIT_MS}"
        answer = await self._post(client, tenant, path, {"server": "soak", "events": events})
        if answer["accepted"] != len(events):
            self.sent.refusals.append(str(answer["rejected"][:3]))
        return answer["ids"]

    async def _erase(self, client: httpx2.AsyncClient) -> None:
        """Erase an agent every few seconds, sometimes a player."""
        chance = random.Random(f"{self._seed} erasures")
        pause_s = self._seconds / max(10, min(200, self.events // 2000))
        while self.sent.counts["events"] < self.events - SENDERS * BATCH:
            await asyncio.sleep(pause_s)
            subject = (
                {"player": chance.choice([f"visitor{chance.randrange(VISITORS)}", "named1", "named2"])}
                if chance.random() < 0.2
                else {"agent_id": agent_of(chance.randrange(self.events))}
            )
            await self._post(client, chance.choice(TENANTS), "/v1/erasures", subject)
            self.sent.counts["erasures"] += 1

    async def _post(self, client: httpx2.AsyncClient, tenant: str, path: str, body: Any) -> Any:
        """Send until it is accepted: an outage, an overload and a broken connection are tried again."""
        headers = {"Authorization": self._keys[tenant]}
        for attempt in itertools.count():
            self.sent.counts["retries"] += attempt > 0
            try:
                answer = await client.post(path, json=body, headers=headers)
            except httpx2.TransportError:
                await asyncio.sleep(0.2)
                continue
            if answer.status_code in {200, 202}:
                return answer.json()
            if answer.status_code not in {429, 502, 503, 504}:
                self.sent.refusals.append(f"{answer.status_code} {answer.text[:200]}")
            await asyncio.sleep(0.2)
        raise AssertionError("unlimited attempts came to an end")

    # --- the canary ------------------------------------------------------------------------------------------

    async def _canary(self, client: httpx2.AsyncClient) -> None:
        """Write to every partition, wait until all of it is indexed, and find one of it; again and again."""
        for number in itertools.count():
            begun = time.monotonic()
            with contextlib.suppress(httpx2.TransportError, KeyError):
                if await self._canary_round(client, number):
                    self.sent.canaries.append((begun, time.monotonic()))
            await asyncio.sleep(CANARY_PAUSE_S)

    async def _canary_round(self, client: httpx2.AsyncClient, number: int) -> bool:
        headers = {"Authorization": self._keys[TENANTS[0]]}
        agents = canaries(PARTITIONS)
        events = [
            {"agent_id": agent, "id": f"c{number}", "text": f"canary {number}", "ttl": CANARY_TTL_S}
            for agent in agents
        ]
        written = await client.post(
            "/v1/events?wait=indexed&timeout_ms=15000",
            json={"server": "soak", "events": events},
            headers=headers,
        )
        if written.status_code != 200:
            return False
        place = number % PARTITIONS
        path = f"/v1/memories/{written.json()['ids'][place]}?agent_id={agents[place]}"
        found = await client.get(path, headers=headers)
        return found.status_code == 200
