"""What the store must hold after all records of the log, and what it holds: by the contract, without the product's code."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.soak.load import AGENTS, NAMED, Sent, agent_of, canaries, tenant_of

TOPIC = "lorestream.events"
PAGE = 1000
MARGIN_S = 10.0
"""Memories that expire within the time of reading the store, and this long before and after it, may be there or not."""
SHOWN = 10
"""Examples of each kind of difference in the report."""


@dataclass(frozen=True, slots=True)
class Put:
    """One accepted event, as the log has it."""

    tenant: str
    agent_id: str
    players: tuple[str, ...]
    accepted_at: float
    expires_at: float
    text: str


@dataclass
class Log:
    """All records of the log."""

    puts: dict[str, list[Put]] = field(default_factory=dict)
    """Memory id -> its events, in the order of the log."""
    deleted: set[tuple[str, str, str]] = field(default_factory=set)
    """(tenant, agent, memory id)"""
    erased: dict[tuple[str, str, str], float] = field(default_factory=dict)
    """(tenant, "agent" or "player", subject) -> the newest erasure's acceptance."""
    records: Counter[str] = field(default_factory=Counter)

    def add(self, envelope: Mapping[str, Any]) -> None:
        self.records[envelope["op"]] += 1
        tenant = envelope["tenant"]
        match envelope["op"]:
            case "put":
                players = (envelope.get("player"), envelope.get("agent_player"))
                put = Put(
                    tenant,
                    envelope["agent_id"],
                    tuple(one for one in players if one is not None),
                    envelope["accepted_at"],
                    envelope.get("expires_at") or float("inf"),
                    envelope["text"],
                )
                self.puts.setdefault(envelope["memory_id"], []).append(put)
            case "delete":
                self.deleted.add((tenant, envelope["agent_id"], envelope["memory_id"]))
            case "erase":
                for subject in envelope["subjects"]:
                    key = (tenant, envelope["kind"], subject)
                    self.erased[key] = max(envelope["accepted_at"], self.erased.get(key, 0.0))
            case other:
                raise AssertionError(other)

    def living(self, memory_id: str) -> list[Put]:
        """The events of this id that no deletion and no erasure covers, whether expired or not."""
        return [
            put
            for put in self.puts[memory_id]
            if (put.tenant, put.agent_id, memory_id) not in self.deleted
            and put.accepted_at > self.erased.get((put.tenant, "agent", put.agent_id), 0.0)
            and all(
                put.accepted_at > self.erased.get((put.tenant, "player", one), 0.0) for one in put.players
            )
        ]


async def read_log(bootstrap: str) -> Log:
    """Every record of the topic, each partition in its order."""
    log = Log()
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as consumer:
        await consumer._client.force_metadata_update()
        await consumer.topics()
        partitions = [TopicPartition(TOPIC, number) for number in consumer.partitions_for_topic(TOPIC) or ()]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(one) < ends[one] for one in partitions]):
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    log.add(json.loads(record.value))
    return log


@dataclass(frozen=True, slots=True)
class Found:
    """One memory that a read has shown, and to whom."""

    tenant: str
    agent_id: str
    memory: Mapping[str, Any]


def read_store(url: str, keys: Mapping[str, str], partitions: int) -> Iterator[Found]:
    """Every memory of every agent of both tenants, page by page, and those of agents that nobody has named."""
    named = {f"npc:{n}" for n in range(AGENTS)} | {f"player:named{n}" for n in range(NAMED)}
    named |= set(canaries(partitions))
    with httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
        for tenant, key in keys.items():
            headers = {"Authorization": key}
            listed = client.get("/v1/agents?limit=1000", headers=headers).raise_for_status().json()["agents"]
            # Agents that are named after players are listed under their pseudonyms.
            others = {one["agent_id"] for one in listed if not one["agent_id"].startswith("player:")}
            for agent in sorted(named | others):
                path, cursor = f"/v1/agents/{agent}/memories", None
                while True:
                    asked = {"limit": PAGE, "order": "oldest"} | ({"cursor": cursor} if cursor else {})
                    page = client.get(path, params=asked, headers=headers).raise_for_status().json()
                    for memory in page["memories"]:
                        yield Found(tenant, agent, memory)
                    cursor = page["next_cursor"]
                    if cursor is None:
                        break


def compare(log: Log, sent: Sent, found: Iterable[Found]) -> dict[str, Any]:
    """Count what is lost, doubled, foreign, undead or changed, with examples. `found` is read here."""
    began = time.time() - MARGIN_S
    wrong: dict[str, list[str]] = {name: [] for name in ("lost", "doubled", "foreign", "undead", "changed")}
    seen: set[str] = set()
    events: set[int] = set()
    for one in found:
        memory_id, number = one.memory["id"], one.memory["metadata"].get("number")
        shown = f"{memory_id} (event {number}) of {one.tenant}, {one.agent_id}: {one.memory['text']!r}"
        if memory_id in seen or number in events:
            wrong["doubled"].append(shown)
        seen.add(memory_id)
        if number is not None:
            events.add(number)
        wrong_place = number is not None and (tenant_of(number), agent_of(number)) != (
            one.tenant,
            one.agent_id,
        )
        if memory_id not in log.puts or wrong_place or log.puts[memory_id][0].tenant != one.tenant:
            wrong["foreign"].append(shown)
            continue
        living = [put for put in log.living(memory_id) if put.expires_at > began]
        if not living:
            wrong["undead"].append(shown)
        elif one.memory["text"] not in {put.text for put in living}:
            wrong["changed"].append(shown)
    ended = time.time() + MARGIN_S
    for memory_id, puts in log.puts.items():
        if memory_id in seen:
            continue
        living = log.living(memory_id)
        # Whether an id makes a memory again, when an erasure has covered its first event, is not promised.
        if len(living) == len(puts) and all(put.expires_at > ended for put in living):
            wrong["lost"].append(f"{memory_id}: {puts[0].text!r} is in the log and not in the store")
    wrong["lost"] += [
        f"{memory_id} (event {number}) was accepted and is not in the log"
        for memory_id, number in sent.accepted.items()
        if memory_id not in log.puts
    ]
    logged = {memory_id for _, _, memory_id in log.deleted}
    wrong["lost"] += [
        f"the deletion of {one} was accepted and is not in the log" for one in sent.deleted - logged
    ]
    return {
        "memories": len(seen),
        **{name: len(these) for name, these in wrong.items()},
        "examples": {name: these[:SHOWN] for name, these in wrong.items() if these},
    }
