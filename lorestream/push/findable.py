"""From records of the log to the memories that they have become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import orjson

from lorestream.events import Put, Unreadable, decode
from lorestream.memories import Memory

if TYPE_CHECKING:
    from lorestream.ports import Clock, ErasureLedger, MemoryWriter, Record

_PUT = b"put"


class Item(NamedTuple):
    """A step of a receiver through the log: the memory of a record, and the position behind it.

    Without a memory: no record up to the position has one that the receiver wants.
    """

    partition: int
    position: int
    memory: Memory | None


@dataclass(frozen=True, slots=True)
class Findable:
    """Finds the memories of finished records, as reads show them at that moment."""

    store: Callable[[], MemoryWriter]
    """The store of the active collection."""
    ledger: ErasureLedger
    clock: Clock

    async def memories(
        self,
        records: Sequence[Record],
        has_agent: Callable[[str, str], bool],
        wanted: Callable[[Memory], bool],
    ) -> list[Item]:
        """The memories of these records that are `wanted`, in the order of the records. Raises Unavailable.

        Left out is what reads do not show: deleted, erased, rewound, superseded, expired, in the dead letters. An id that was sent again is
        found at its first record alone. `has_agent`, called with tenant and agent id, spares decoding the others.
        """
        sent = [
            (record, memory)
            for record in records
            if (memory := _sent(record, has_agent)) is not None and wanted(memory)
        ]
        if not sent:
            return []
        now = self.clock.now()
        found: list[Item] = []
        stored = await self.store().lookup([memory for _, memory in sent])
        for (record, memory), one in zip(sent, stored, strict=True):
            if (
                isinstance(one, Memory)
                and one.accepted_at == memory.accepted_at
                and (one.expires_at is None or one.expires_at > now)
                and not one.rewound
                and not self.ledger.covers(one)
                and not self.ledger.rewinds.covers(one)
                and (shown := self.ledger.strip(one)).superseded_at is None
            ):
                found.append(Item(record.partition, record.offset + 1, shown))
        return found


def _sent(record: Record, has_agent: Callable[[str, str], bool]) -> Memory | None:
    """The memory that a record asks for, without a generated text; None for other records and other agents."""
    if record.headers.get("kind", _PUT) != _PUT:
        return None
    try:
        tenant, agent_id = orjson.loads(record.key)
        if not has_agent(tenant, agent_id):
            return None
        envelope = decode(record)
    except (Unreadable, ValueError, TypeError):  # it has gone to the dead letters
        return None
    return envelope.memory(envelope.text or "") if isinstance(envelope, Put) else None
