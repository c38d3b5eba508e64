"""Deleting: one memory, an agent, a player; and how far it has come.

The erasure of an agent or a player stands in the ledger, under an id of its own. A single memory's deletion
stands only in the log: its id is a receipt that says where, so that nothing has to remember it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from lorestream import audit, events, tokens
from lorestream.access.principals import Grant
from lorestream.errors import InvalidRequest
from lorestream.http.application import Operation
from lorestream.http.openapi import OLDER
from lorestream.http.request import Call, Refused
from lorestream.http.response import Reply, reply
from lorestream.identity import Pseudonyms
from lorestream.memories import SubjectKind
from lorestream.ports import ErasureLedger, EventLog, WatermarkReader
from producers import examples
from producers.log_writer import APPEND_TIMEOUT_S, Acceptance, within
from producers.schemas import (
    AgentPlace,
    ErasurePlace,
    ErasureProgress,
    ErasureReceipt,
    MemoryPlace,
    Nothing,
    OfAgent,
    PlayerPlace,
    SomeSubject,
    Subject,
    Succeeded,
)

DEAD_LETTER_LIFE_S = 14 * 86_400.0

_IDEMPOTENT = (
    "It may be repeated, and is accepted for what is not there. From the moment that it is processed (`token`) no read"
    " shows what it took."
)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Erasures:
    """Writes deletions to the log. All of them may be repeated, and touch nothing that is not there.

    All that write raise Unavailable (Overloaded) when the log or the ledger cannot take writes. `by`: the id of the
    caller's key, for the audit log.
    """

    log: EventLog
    ledger: ErasureLedger
    watermarks: WatermarkReader
    pseudonyms: Pseudonyms
    acceptance: Acceptance

    async def delete_memory(
        self, tenant: str, agent_id: str, memory_id: str, *, by: str = ""
    ) -> ErasureReceipt:
        """Forget one memory of that agent for good."""
        accepted_at = self.acceptance.stamp()
        found = _canonical(memory_id)
        agents = self.pseudonyms.agents(tenant, agent_id) if found is not None else ()
        positions = await self.acceptance.append(
            [events.encode(events.Delete(tenant, agent, found or "", accepted_at)) for agent in agents]
        )
        receipt = tokens.receipt(tenant, accepted_at, positions)
        audit.memory_deleted(erasure_id=receipt, memory_id=found or "", tenant=tenant, by=by)
        return ErasureReceipt(receipt, tokens.token(positions))

    async def erase_agent(self, tenant: str, agent_id: str, *, by: str = "") -> ErasureReceipt:
        """Forget everything of an agent that was accepted until now."""
        return await self._erase(tenant, SubjectKind.AGENT, self.pseudonyms.agents(tenant, agent_id), by)

    async def erase_player(self, tenant: str, name: str, *, by: str = "") -> ErasureReceipt:
        """Forget everything of a player, and of the agents named after them, that was accepted until now."""
        return await self._erase(tenant, SubjectKind.PLAYER, self.pseudonyms.players(tenant, name), by)

    async def progress(self, tenant: str, erasure_id: str) -> ErasureProgress | None:
        """How far it has come; None for what this tenant never asked for. Raises Unavailable."""
        if (receipt := tokens.parse_receipt(erasure_id)) is not None:
            owner, accepted_at, positions = receipt
            done = await self.watermarks.reached(positions, 0)
        elif (state := await self.ledger.state(erasure_id)) is not None:
            owner, accepted_at, done = state.erasure.tenant, state.erasure.accepted_at, state.done
        else:
            return None
        if owner != tenant:
            return None
        log_gone_by = accepted_at + self.log.retention_s
        return ErasureProgress(
            erasure_id=erasure_id,
            state="done" if done else "running",
            log_gone_by=log_gone_by,
            # A record may become a dead letter as long as the log holds it.
            dead_letters_gone_by=log_gone_by + DEAD_LETTER_LIFE_S,
        )

    async def _erase(
        self, tenant: str, kind: SubjectKind, subjects: Sequence[str], by: str
    ) -> ErasureReceipt:
        erase = events.Erase(tenant, str(uuid.uuid4()), kind.value, tuple(subjects), self.acceptance.stamp())
        async with within(APPEND_TIMEOUT_S, "the log"):
            positions = await self.acceptance.append([events.encode(erase)])
            audit.erasure_asked(erasure_id=erase.erasure_id, kind=kind.value, tenant=tenant, by=by)
            # Behind the log: whoever is told the id finds it, and the indexer adds what a crash leaves out here.
            await self.ledger.add(erase.erasure())
        return ErasureReceipt(erase.erasure_id, tokens.token(positions))

    # --- HTTP ----------------------------------------------------------------------------------------

    def operations(self) -> list[Operation]:
        """The routes that delete."""
        route = partial(Operation, needs=Grant.ERASE, topic="Deletions")
        write = partial(route, answer=ErasureReceipt, status=202, details=_IDEMPOTENT)
        return [
            write(
                "DELETE",
                "/v1/memories/{id}",
                self._on_memory,
                "Delete one memory",
                place=MemoryPlace,
                params=OfAgent,
                example=examples.DELETE_MEMORY,
            ),
            write(
                "DELETE",
                "/v1/agents/{agent_id}",
                self._on_agent,
                "Erase an agent",
                place=AgentPlace,
                params=Nothing,
                example=examples.ERASE_AGENT,
            ),
            write(
                "DELETE",
                "/v1/players/{name}",
                self._on_player,
                "Erase a player",
                place=PlayerPlace,
                params=Nothing,
                example=examples.ERASE_PLAYER,
            ),
            write(
                "POST",
                "/v1/erasures",
                self._on_subject,
                "Any of these, by POST",
                params=Nothing,
                body=Subject,
                example=examples.ERASE,
            ),
            route(
                "GET",
                "/v1/erasures/{erasure_id}",
                self._on_progress,
                "How far an erasure has come",
                answer=ErasureProgress,
                place=ErasurePlace,
                params=Nothing,
                also={404: "No erasure has this id."},
                example=examples.PROGRESS,
            ),
            write(
                "POST",
                "/memory/delete",
                self._on_forget,
                "Erase an agent, or a player",
                answer=Succeeded,
                params=Nothing,
                body=SomeSubject,
                topic=OLDER,
                example=examples.FORGET,
            ),
        ]

    async def _on_memory(self, call: Call) -> Reply:
        of = call.params(OfAgent)
        return reply(
            await self.delete_memory(
                call.tenant, of.agent_id, call.place(MemoryPlace).id, by=call.principal.key
            ),
            202,
        )

    async def _on_agent(self, call: Call) -> Reply:
        call.params(Nothing)
        return reply(
            await self.erase_agent(call.tenant, call.place(AgentPlace).agent_id, by=call.principal.key), 202
        )

    async def _on_player(self, call: Call) -> Reply:
        call.params(Nothing)
        return reply(
            await self.erase_player(call.tenant, call.place(PlayerPlace).name, by=call.principal.key), 202
        )

    async def _on_subject(self, call: Call) -> Reply:
        call.params(Nothing)
        subject, by = await call.json(Subject), call.principal.key
        match subject.agent_id, subject.memory_id, subject.player:
            case str() as agent_id, str() as memory_id, msgspec.UNSET:
                receipt = await self.delete_memory(call.tenant, agent_id, memory_id, by=by)
            case str() as agent_id, msgspec.UNSET, msgspec.UNSET:
                receipt = await self.erase_agent(call.tenant, agent_id, by=by)
            case msgspec.UNSET, msgspec.UNSET, str() as player:
                receipt = await self.erase_player(call.tenant, player, by=by)
            case _:
                raise InvalidRequest(
                    "exactly one of these is needed: agent_id with memory_id, agent_id, player"
                )
        return reply(receipt, 202)

    async def _on_forget(self, call: Call) -> Reply:
        call.params(Nothing)
        subject, by = await call.json(SomeSubject), call.principal.key
        match subject.agent_id, subject.player:
            case str() as agent_id, msgspec.UNSET:
                await self.erase_agent(call.tenant, agent_id, by=by)
            case msgspec.UNSET, str() as player:
                await self.erase_player(call.tenant, player, by=by)
            case _:
                raise InvalidRequest("exactly one of these is needed: agent_id, player")
        return reply(Succeeded(), 202)

    async def _on_progress(self, call: Call) -> Reply:
        call.params(Nothing)
        progress = await self.progress(call.tenant, call.place(ErasurePlace).erasure_id)
        if progress is None:
            raise Refused(404, "not_found", "no erasure has this id")
        return reply(progress)


def _canonical(memory_id: str) -> str | None:
    """The id as memories carry it. None for what is no UUID: no memory has such an id."""
    lower = memory_id.lower()
    return lower if _UUID.fullmatch(lower) else None
