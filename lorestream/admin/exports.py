"""The task `export`: all memories and rows, or those of some agents, read from the store page by page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from lorestream import identity
from lorestream.access.authentication import Principal
from lorestream.admin import TENANT_SCOPES, AdminTask, Outcome, Progress, ReportStream, Row, only_own_tenant
from lorestream.admin.export_format import ExportedMemory, ExportedRow
from lorestream.errors import InvalidRequest
from lorestream.identity import Pseudonyms
from lorestream.memories import AgentKey, Memory
from lorestream.ports import Clock, ErasureLedger, StoreMaintenance, Tombstone
from lorestream.state.rows import Row as StateRow
from lorestream.turns import Turns

_PAGE = 500


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
        """Yield one line for each memory and each row of state that is neither expired nor erased, in a stable order.

        Raises InvalidRequest, Unavailable.
        """
        chosen = self._selector(arguments)
        # A scan cursor is only valid for its own collection: keep this store even if the alias is swapped meanwhile.
        store, after = self.store(), None
        counts: dict[str, int] = dict.fromkeys(("memories", "rows", "erased", "rewound", "expired"), 0)
        yield Progress("exporting", 0, unit="memories")
        while True:
            page, after = await store.scan(after, _PAGE)
            turns = Turns()
            for one in page:
                if isinstance(one, Tombstone) or not chosen(one):
                    continue
                name = self._fate(one)
                counts[name] += 1
                if name in {"memories", "rows"}:
                    yield Row(_line(self.ledger.strip(one) if isinstance(one, Memory) else one))
                    await turns.next()
            yield Progress("exporting", counts["memories"], unit="memories")
            if after is None:
                break
        yield Outcome({**counts})

    def _fate(self, one: Memory | StateRow) -> str:
        """What becomes of a memory or a row: the name of its count."""
        if isinstance(one, Memory):
            if self.ledger.rewinds.covers(one):
                return "rewound"
            erased, kind = self.ledger.covers(one), "memories"
        else:
            erased, kind = self.ledger.covers_state(one.key.agent, one.agent_player, one.since), "rows"
        if erased:
            return "erased"
        return "expired" if one.expires_at is not None and one.expires_at <= self.clock.now() else kind

    def _selector(self, arguments: ExportArguments) -> Callable[[Memory | StateRow], bool]:
        """A condition on memories and rows. Raises InvalidRequest for a player's agent when this process has no keys for names."""
        forms: dict[str, Collection[str]] = {}

        def chosen(one: Memory | StateRow) -> bool:
            agent = AgentKey(one.tenant, one.agent_id) if isinstance(one, Memory) else one.key.agent
            if arguments.tenant not in {None, agent.tenant}:
                return False
            if not arguments.agents:
                return True
            if agent.tenant not in forms:
                forms[agent.tenant] = self._stored_ids(agent.tenant, arguments.agents)
            return agent.agent_id in forms[agent.tenant]

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


def _line(one: Memory | StateRow) -> dict[str, Any]:
    line = ExportedMemory.from_memory(one) if isinstance(one, Memory) else ExportedRow.from_row(one)
    return msgspec.to_builtins(line)
