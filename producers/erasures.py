"""Deletions: one memory, an agent, a player; and their progress.

The erasure of an agent or a player is an entry of the erasure ledger, with an id of its own. The deletion of a single
memory is only a record of the log: its id is a receipt that contains the record's offsets, so nothing is stored.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import msgspec

from lorestream import audit, events, limits, tokens
from lorestream.access.key_file import KeyScope
from lorestream.errors import InvalidRequest
from lorestream.http.operation import OLDER_NAMES, Operation
from lorestream.http.request import ApiRequest, ApiResponse, found_response, json_response
from lorestream.identity import Pseudonyms
from lorestream.memories import SubjectKind
from lorestream.ports import ErasureLedger, EventLog, WatermarkReader
from lorestream.ports.log import DEAD_LETTER_RETENTION_S
from producers import examples
from producers.log_writer import WRITE_TIMEOUT_S, LogWriter, write_timeout
from producers.schemas import (
    AgentParams,
    AgentPath,
    DeleteBody,
    DeleteResponse,
    ErasureBody,
    ErasurePath,
    ErasureProgress,
    ErasureReceipt,
    ErasuresParams,
    ErasuresResponse,
    ListedErasure,
    MemoryPath,
    NoParams,
    PlayerPath,
)

_IDEMPOTENT = (
    "It may be repeated, and is accepted for what does not exist. Once it is processed (`token`), no read shows the"
    " deleted memories."
)


@dataclass(frozen=True, slots=True)
class Erasures:
    """Writes deletions to the log. Each may be repeated, and has no effect on what does not exist.

    The methods that write raise Unavailable (Overloaded) when the log or the ledger accepts no writes. Their `by` is
    the id of the caller's key, for the audit log.
    """

    log: EventLog
    ledger: ErasureLedger
    watermarks: WatermarkReader
    pseudonyms: Pseudonyms
    log_writer: LogWriter

    async def delete_memory(
        self, tenant: str, agent_id: str, memory_id: str, *, by: str = ""
    ) -> ErasureReceipt:
        """Delete one memory of that agent for good. Raises InvalidRequest for an agent id that is too long."""
        limits.check_agent_id(agent_id)
        accepted_at = self.log_writer.next_accepted_at()
        canonical_id = limits.canonical_memory_id(memory_id)
        agents = self.pseudonyms.agents(tenant, agent_id) if canonical_id is not None else ()
        positions = await self.log_writer.append(
            [events.encode(events.Delete(tenant, agent, canonical_id or "", accepted_at)) for agent in agents]
        )
        receipt = tokens.receipt(tenant, accepted_at, positions)
        audit.memory_deleted(erasure_id=receipt, memory_id=canonical_id or "", tenant=tenant, by=by)
        return ErasureReceipt(receipt, tokens.token(positions))

    async def erase_agent(self, tenant: str, agent_id: str, *, by: str = "") -> ErasureReceipt:
        """Erase all memories of an agent that were accepted until now.

        Raises InvalidRequest for an agent id that is empty or too long.
        """
        limits.check_agent_id(agent_id)
        return await self._erase(tenant, SubjectKind.AGENT, self.pseudonyms.agents(tenant, agent_id), by)

    async def erase_player(self, tenant: str, name: str, *, by: str = "") -> ErasureReceipt:
        """Erase all memories about a player, and of the agents named after it, that were accepted until now."""
        return await self._erase(tenant, SubjectKind.PLAYER, self.pseudonyms.players(tenant, name), by)

    async def progress(self, tenant: str, erasure_id: str) -> ErasureProgress | None:
        """The state of an erasure; None when this tenant has none with this id. Raises Unavailable."""
        if (receipt := tokens.parse_receipt(erasure_id)) is not None:
            owner, accepted_at, positions = receipt
            done = await self.watermarks.reached(positions, 0)
        elif (state := await self.ledger.state(erasure_id)) is not None:
            owner, accepted_at, done = state.erasure.tenant, state.erasure.accepted_at, state.done
        else:
            return None
        if owner != tenant:
            return None
        return ErasureProgress(erasure_id, *self._proof(accepted_at, done=done))

    async def newest(self, tenant: str, limit: int) -> list[ListedErasure]:
        """The tenant's newest erasures of agents and players, the newest first. Raises Unavailable."""
        return [
            ListedErasure(
                one.erasure.id,
                *self._proof(one.erasure.accepted_at, done=one.done),
                one.erasure.kind,
                one.erasure.subjects,
                one.erasure.accepted_at,
            )
            for one in await self.ledger.newest(tenant, limit)
        ]

    def _proof(self, accepted_at: float, *, done: bool) -> tuple[Literal["done", "running"], float, float]:
        """The state of an erasure, and when the log and the dead letters no longer have what it covers."""
        log_gone_by = accepted_at + self.log.retention_s
        # As long as the log has a record, the record may still become a dead letter.
        return "done" if done else "running", log_gone_by, log_gone_by + DEAD_LETTER_RETENTION_S

    async def _erase(
        self, tenant: str, kind: SubjectKind, subjects: Sequence[str], by: str
    ) -> ErasureReceipt:
        accepted_at = self.log_writer.next_accepted_at()
        erase = events.Erase(tenant, str(uuid.uuid4()), kind.value, tuple(subjects), accepted_at)
        async with write_timeout(WRITE_TIMEOUT_S, "the log"):
            positions = await self.log_writer.append([events.encode(erase)])
            audit.erasure_requested(erasure_id=erase.erasure_id, kind=kind.value, tenant=tenant, by=by)
            # The ledger has the entry before the caller gets its id. If this process crashes here, the indexer adds it.
            await self.ledger.add(erase.erasure())
        return ErasureReceipt(erase.erasure_id, tokens.token(positions))


# --- HTTP ------------------------------------------------------------------------------------------------


def operations(erasures: Erasures) -> list[Operation]:
    """The routes that delete."""
    routes = _Routes(erasures)
    route = partial(Operation, scope=KeyScope.ERASE, query_params=NoParams, tag="Deletions")
    write = partial(route, response=ErasureReceipt, status=202, description=_IDEMPOTENT)
    return [
        write(
            "DELETE",
            "/v1/memories/{id}",
            routes.delete_memory,
            "Delete one memory",
            path_params=MemoryPath,
            query_params=AgentParams,
            example=examples.DELETE_MEMORY,
        ),
        write(
            "DELETE",
            "/v1/agents/{agent_id}",
            routes.erase_agent,
            "Erase an agent",
            path_params=AgentPath,
            example=examples.ERASE_AGENT,
        ),
        write(
            "DELETE",
            "/v1/players/{name}",
            routes.erase_player,
            "Erase a player",
            path_params=PlayerPath,
            example=examples.ERASE_PLAYER,
        ),
        write(
            "POST",
            "/v1/erasures",
            routes.erase,
            "Delete a memory, an agent or a player by POST",
            body=ErasureBody,
            example=examples.ERASE,
        ),
        route(
            "GET",
            "/v1/erasures/{erasure_id}",
            routes.progress,
            "The progress of an erasure",
            response=ErasureProgress,
            path_params=ErasurePath,
            other_statuses={404: "No erasure has this id."},
            example=examples.PROGRESS,
        ),
        route(
            "GET",
            "/v1/erasures",
            routes.newest,
            "The erasures of agents and players, with their progress",
            response=ErasuresResponse,
            query_params=ErasuresParams,
            example=examples.ERASURES,
        ),
        write(
            "POST",
            "/memory/delete",
            routes.delete,
            "Erase an agent, or a player",
            response=DeleteResponse,
            body=DeleteBody,
            tag=OLDER_NAMES,
            example=examples.FORGET,
        ),
    ]


class _Routes:
    def __init__(self, erasures: Erasures) -> None:
        self._erasures = erasures

    async def delete_memory(self, request: ApiRequest) -> ApiResponse:
        agent_id = request.query_params(AgentParams).agent_id
        memory_id = request.path_params(MemoryPath).id
        return json_response(
            await self._erasures.delete_memory(request.tenant, agent_id, memory_id, by=request.principal.key),
            202,
        )

    async def erase_agent(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        agent_id = request.path_params(AgentPath).agent_id
        receipt = await self._erasures.erase_agent(request.tenant, agent_id, by=request.principal.key)
        return json_response(receipt, 202)

    async def erase_player(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        name = request.path_params(PlayerPath).name
        receipt = await self._erasures.erase_player(request.tenant, name, by=request.principal.key)
        return json_response(receipt, 202)

    async def erase(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        body, tenant, by = await request.json(ErasureBody), request.tenant, request.principal.key
        match body.agent_id, body.memory_id, body.player:
            case str() as agent_id, str() as memory_id, None:
                receipt = await self._erasures.delete_memory(tenant, agent_id, memory_id, by=by)
            case str() as agent_id, msgspec.UNSET, None:
                receipt = await self._erasures.erase_agent(tenant, agent_id, by=by)
            case None, None | msgspec.UNSET, str() as player:
                receipt = await self._erasures.erase_player(tenant, player, by=by)
            case _:
                raise InvalidRequest(
                    "exactly one of these is needed: agent_id with memory_id, agent_id, player"
                )
        return json_response(receipt, 202)

    async def delete(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        body, by = await request.json(DeleteBody), request.principal.key
        match body.agent_id, body.player, body.memory_id:
            case str() as agent_id, None, msgspec.UNSET:
                await self._erasures.erase_agent(request.tenant, agent_id, by=by)
            case None, str() as player, msgspec.UNSET:
                await self._erasures.erase_player(request.tenant, player, by=by)
            case _:
                raise InvalidRequest("exactly one of these is needed: agent_id, player")
        return json_response(DeleteResponse(), 202)

    async def newest(self, request: ApiRequest) -> ApiResponse:
        limit = request.query_params(ErasuresParams).limit
        return json_response(ErasuresResponse(await self._erasures.newest(request.tenant, limit)))

    async def progress(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        erasure_id = request.path_params(ErasurePath).erasure_id
        return found_response(
            await self._erasures.progress(request.tenant, erasure_id), "no erasure has this id"
        )
