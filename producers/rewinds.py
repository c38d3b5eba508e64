"""Rewinds of a game server: its world was restored from a backup, so what its agents came to know since is hidden.

A rewind is an entry of the ledger, as an erasure is, and a record of the log: what it covers stays in the store, set aside,
so that it can be undone.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field, replace
from functools import partial

import msgspec

from lorestream import audit, events, tokens
from lorestream.access.key_file import KeyScope
from lorestream.errors import InvalidRequest
from lorestream.http.operation import Operation
from lorestream.http.request import ApiRequest, ApiResponse, found_response, json_response
from lorestream.ports import RewindLedger, RewindState
from lorestream.rewinds import Rewind, check_time
from producers import examples
from producers.log_writer import WRITE_TIMEOUT_S, LogWriter, write_timeout
from producers.schemas import (
    NoParams,
    RewindBody,
    RewindList,
    RewindListParams,
    RewindPath,
    RewindReceipt,
    RewindView,
)

_NAMESPACE = uuid.UUID("5c9d2f0a-2b6e-4f53-8a41-6b1f0d7f7a3e")
"""The UUIDv5 namespace of rewinds with an id of their caller's. It must never change: a retry would be another rewind."""

_UNKNOWN = "no rewind has this id"
_WHAT = (
    "The memories and records that this server's agents got after `to`, by their `accepted_at`, are in no answer any more"
    " once the rewind is processed (`token`); those of other servers stay. Documents, Q-tables and policies name no server:"
    " they stay as they are. A deleted memory stays deleted. A rewind can be undone for as long as its memories are kept:"
    " until they expire, or are erased."
)


@dataclass(frozen=True, slots=True)
class Rewinds:
    """Writes rewinds and their undoings to the log.

    The methods raise Unavailable, and those that write Overloaded, when the log or the ledger cannot be used. `by` is the
    id of the caller's key, for the audit log.
    """

    ledger: RewindLedger
    log_writer: LogWriter
    _naming: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    """Held from the look-up of a name until its rewind is written: of two requests the second one finds it."""

    async def begin(
        self, tenant: str, server: str, to: float, *, name: str | None = None, by: str = ""
    ) -> RewindReceipt:
        """Hide what the agents of that server came to know after `to` (Unix seconds) and until now.

        A server that is not known, or has no such memories, changes nothing. `name`: the caller's id of the rewind, which
        makes a repeated call the same rewind. Raises InvalidRequest for a time that has not come yet, and for the name of
        another rewind, or of one that was undone.
        """
        if name is None:
            return await self._write(self._new(str(uuid.uuid4()), tenant, server, to), by)
        rewind_id = str(uuid.uuid5(_NAMESPACE, msgspec.json.encode([tenant, name]).decode()))
        async with write_timeout(WRITE_TIMEOUT_S, "the log"), self._naming:
            if (known := await self._of(tenant, rewind_id)) is None:
                return await self._write(self._new(rewind_id, tenant, server, to), by)
            if (known.rewind.server, known.rewind.to) != (server, to):
                raise InvalidRequest("it names another rewind, give each its own", path="id")
            if known.rewind.undone_at is not None:
                raise InvalidRequest("its rewind was undone, give another one its own", path="id")
            return await self._write(known.rewind, by)

    async def undo(self, tenant: str, rewind_id: str, *, by: str = "") -> RewindReceipt | None:
        """Undo a rewind: what no other rewind hides is shown again. May be repeated; None if the tenant has no such rewind."""
        state = await self._of(tenant, rewind_id)
        if state is None:
            return None
        undone_at = state.rewind.undone_at or self.log_writer.next_accepted_at()
        return await self._write(replace(state.rewind, undone_at=undone_at), by)

    async def one(self, tenant: str, rewind_id: str) -> RewindView | None:
        """A rewind and its state; None if the tenant has no such rewind."""
        state = await self._of(tenant, rewind_id)
        return None if state is None else _view(state)

    async def newest(self, tenant: str, limit: int) -> RewindList:
        """The tenant's newest rewinds."""
        return RewindList([_view(state) for state in (await self.ledger.states(tenant))[:limit]])

    def _new(self, rewind_id: str, tenant: str, server: str, to: float) -> Rewind:
        accepted_at = self.log_writer.next_accepted_at()
        check_time(to, accepted_at)
        return Rewind(rewind_id, tenant, server, to, accepted_at)

    async def _of(self, tenant: str, rewind_id: str) -> RewindState | None:
        state = await self.ledger.state(rewind_id)
        return state if state is not None and state.rewind.tenant == tenant else None

    async def _write(self, rewind: Rewind, by: str) -> RewindReceipt:
        undone = rewind.undone_at is not None
        async with write_timeout(WRITE_TIMEOUT_S, "the log"):
            positions = await self.log_writer.append([events.encode(events.RewindWrite.of(rewind))])
            audit.rewind_requested(rewind_id=rewind.id, tenant=rewind.tenant, by=by, undone=undone)
            # The ledger has the entry before the caller gets its id. If this process crashes here, the indexer adds it.
            await self.ledger.put(rewind)
        return RewindReceipt(rewind.id, tokens.token(positions))


def _view(state: RewindState) -> RewindView:
    rewind = state.rewind
    if rewind.undone_at is None:
        name = "done" if state.done else "running"
    else:
        name = "undone" if state.done else "undoing"
    return RewindView(rewind.id, rewind.server, rewind.to, rewind.accepted_at, rewind.undone_at, name)


# --- HTTP ------------------------------------------------------------------------------------------------


def operations(rewinds: Rewinds) -> list[Operation]:
    """The routes of rewinds."""
    routes = _Routes(rewinds)
    route = partial(Operation, scope=KeyScope.ERASE, query_params=NoParams, tag="Rewinds")
    one = partial(
        route, path_params=RewindPath, other_statuses={404: "The tenant has no rewind with this id."}
    )
    return [
        route(
            "POST",
            "/v1/rewinds",
            routes.begin,
            "Take a server back to the time of a backup",
            body=RewindBody,
            response=RewindReceipt,
            status=202,
            description=_WHAT,
            example=examples.REWIND,
        ),
        route(
            "GET",
            "/v1/rewinds",
            routes.newest,
            "The rewinds so far, the newest first",
            query_params=RewindListParams,
            response=RewindList,
            example=examples.REWINDS,
        ),
        one(
            "GET",
            "/v1/rewinds/{id}",
            routes.one,
            "One rewind and its state",
            response=RewindView,
            example=examples.ONE_REWIND,
        ),
        one(
            "DELETE",
            "/v1/rewinds/{id}",
            routes.undo,
            "Undo a rewind",
            response=RewindReceipt,
            status=202,
            description="Once it is processed (`token`), reads show again what no other rewind hides. It may be repeated.",
            example=examples.UNDO_REWIND,
        ),
    ]


class _Routes:
    def __init__(self, rewinds: Rewinds) -> None:
        self._rewinds = rewinds

    async def begin(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        body = await request.json(RewindBody)
        by = request.principal.key
        receipt = await self._rewinds.begin(request.tenant, body.server, body.to, name=body.id, by=by)
        return json_response(receipt, 202)

    async def newest(self, request: ApiRequest) -> ApiResponse:
        limit = request.query_params(RewindListParams).limit
        return json_response(await self._rewinds.newest(request.tenant, limit))

    async def one(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        rewind_id = request.path_params(RewindPath).id
        return found_response(await self._rewinds.one(request.tenant, rewind_id), _UNKNOWN)

    async def undo(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        rewind_id = request.path_params(RewindPath).id
        receipt = await self._rewinds.undo(request.tenant, rewind_id, by=request.principal.key)
        return found_response(receipt, _UNKNOWN, 202)
