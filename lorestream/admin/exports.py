"""The task `export`: all memories, or those of some agents, read from the store page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import msgspec

from lorestream import identity
from lorestream.access.authentication import Principal
from lorestream.admin import TENANT_SCOPES, AdminTask, Outcome, Progress, ReportStream, Row, only_own_tenant
from lorestream.admin.export_format import ExportedMemory
from lorestream.errors import InvalidRequest
from lorestream.identity import Pseudonyms
from lorestream.memories import Memory
from lorestream.ports import Clock, ErasureLedger, StoreMaintenance

_PAGE = 500
_YIELD_EVERY_ROWS = 16  # a few milliseconds of work: in the embedded shape, queries share this event loop


class ExportArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `export`: which agents (empty: all) and which tenant (None: all)."""

    agents: tuple[str, ...] = ()
    tenant: str | None = None


def _restrict(arguments: ExportArguments, caller: Principal) -> ExportArguments:
    return msgspec.structs.replace(arguments, tenant=only_own_tenant(arguments.tenant, caller))


@dataclass(frozen=True, slots=True)
class Exporter:
    """Exports memories. `pseudonyms` is None in a process without keys for player names."""

    store: Callable[[], StoreMaintenance]
    """Returns the store of the active collection."""
    ledger: ErasureLedger
    clock: Clock
    pseudonyms: Pseudonyms | None

    def tasks(self) -> Sequence[AdminTask]:
        """The task `export`."""
        return [AdminTask("export", ExportArguments, self.export, TENANT_SCOPES, _restrict)]

    async def export(self, arguments: ExportArguments) -> ReportStream:
        """Yield one row for each memory that is neither expired nor erased, in a stable order.

        Raises InvalidRequest, Unavailable.
        """
        chosen = self._selector(arguments)
        # A scan cursor is only valid for its own collection: keep this store even if the alias is swapped meanwhile.
        store, after = self.store(), None
        memories = erased = expired = 0
        yield Progress("exporting", 0, unit="memories")
        while True:
            page, after = await store.scan(after, _PAGE)
            now = self.clock.now()
            for memory in page:
                if not isinstance(memory, Memory) or not chosen(memory):
                    continue
                if self.ledger.covers(memory):
                    erased += 1
                elif memory.expires_at is not None and memory.expires_at <= now:
                    expired += 1
                else:
                    memories += 1
                    yield Row(msgspec.to_builtins(ExportedMemory.from_memory(memory)))
                    if memories % _YIELD_EVERY_ROWS == 0:
                        await asyncio.sleep(0)
            yield Progress("exporting", memories, unit="memories")
            if after is None:
                break
        yield Outcome({"memories": memories, "erased": erased, "expired": expired})

    def _selector(self, arguments: ExportArguments) -> Callable[[Memory], bool]:
        """A condition on memories. Raises InvalidRequest for a player's agent when this process has no keys for names."""
        forms: dict[str, Collection[str]] = {}

        def chosen(memory: Memory) -> bool:
            if arguments.tenant not in {None, memory.tenant}:
                return False
            if not arguments.agents:
                return True
            if memory.tenant not in forms:
                forms[memory.tenant] = self._stored_ids(memory.tenant, arguments.agents)
            return memory.agent_id in forms[memory.tenant]

        self._stored_ids(arguments.tenant or "default", arguments.agents)
        return chosen

    def _stored_ids(self, tenant: str, agents: Sequence[str]) -> Collection[str]:
        """All ids under which the store may hold these agents: one for each player key."""
        found: set[str] = set()
        for agent in agents:
            name = identity.player_name(agent)
            if self.pseudonyms is not None:
                found.update(self.pseudonyms.agents(tenant, agent))
            elif name is None or identity.is_pseudonym(name):
                found.add(agent)
            else:
                raise InvalidRequest(
                    f"{agent} is named after a player, and stored under a pseudonym: set LORESTREAM_PLAYER_KEY to the key that"
                    " the services have"
                )
        return found
