"""All memories, or some agents', on their way out: what the store holds, page by page, as lines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import msgspec

from lorestream import identity
from lorestream.admin import Outcome, Progress, Reports, Row, Task
from lorestream.admin.export_format import Line
from lorestream.errors import InvalidRequest
from lorestream.identity import Pseudonyms
from lorestream.memories import Memory
from lorestream.ports import Clock, ErasureLedger, Tombstone, VectorStore

_PAGE = 500
_ROWS_AT_ONCE = 16  # a few milliseconds: in the embedded shape queries wait behind them


class Export(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose memories: these agents' (none named: all), of this tenant (none named: all)."""

    agents: tuple[str, ...] = ()
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Exports:
    """What can be exported. `pseudonyms`: None where this process has no keys for player names."""

    store: Callable[[], VectorStore]
    """The collection that is searched at the moment."""
    ledger: ErasureLedger
    clock: Clock
    pseudonyms: Pseudonyms | None

    def tasks(self) -> Sequence[Task]:
        """What operators ask for."""
        return [Task("export", Export, self.export)]

    async def export(self, wanted: Export) -> Reports:
        """One row for each memory that is neither expired nor erased, in an order that never changes."""
        chosen = self._chosen(wanted)
        # The walk's cursor is this collection's own, even if another is searched before it ends.
        store, after = self.store(), None
        memories = erased = expired = 0
        yield Progress("exporting", 0, unit="memories")
        while True:
            page, after = await store.scan(after, _PAGE)
            now = self.clock.now()
            for memory in page:
                if isinstance(memory, Tombstone) or not chosen(memory):
                    continue
                if self.ledger.covers(memory):
                    erased += 1
                elif memory.expires_at is not None and memory.expires_at <= now:
                    expired += 1
                else:
                    memories += 1
                    yield Row(msgspec.to_builtins(Line.of(memory)))
                    if memories % _ROWS_AT_ONCE == 0:
                        await asyncio.sleep(0)
            yield Progress("exporting", memories, unit="memories")
            if after is None:
                break
        yield Outcome({"memories": memories, "erased": erased, "expired": expired})

    def _chosen(self, wanted: Export) -> Callable[[Memory], bool]:
        """Raises InvalidRequest for a player's agent whose stored form cannot be known here."""
        forms: dict[str, Collection[str]] = {}

        def chosen(memory: Memory) -> bool:
            if wanted.tenant not in {None, memory.tenant}:
                return False
            if not wanted.agents:
                return True
            if memory.tenant not in forms:
                forms[memory.tenant] = self._stored(memory.tenant, wanted.agents)
            return memory.agent_id in forms[memory.tenant]

        self._stored(wanted.tenant or "default", wanted.agents)
        return chosen

    def _stored(self, tenant: str, agents: Sequence[str]) -> Collection[str]:
        """Every form that the agents may have in the store."""
        found: set[str] = set()
        for agent in agents:
            name = identity.player_name(agent)
            if self.pseudonyms is not None:
                found.update(self.pseudonyms.agents(tenant, agent))
            elif name is None or identity.is_pseudonym(name):
                found.add(agent)
            else:
                raise InvalidRequest(
                    f"{agent} is named after a player: set LORESTREAM_PLAYER_KEY as the services have it"
                )
        return found
