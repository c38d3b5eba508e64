"""Writes of documents and Q-tables: checks them, makes their events, appends them, and waits for their answers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, TypeAlias

import msgspec

from lorestream import events, limits, tokens
from lorestream.errors import InvalidRequest, Unavailable
from lorestream.events import MAX_VALUE_BYTES, DocumentWrite, QUpdate, StateEvent
from lorestream.http.request import HttpError
from lorestream.identity import Pseudonyms
from lorestream.limits import MAX_DOCUMENT_BYTES
from lorestream.ports import NewRecord, RowReader
from lorestream.state import documents, known_types
from lorestream.state.documents import Answer, answer_key, document_topic
from lorestream.state.q_tables import DEFAULT_TABLE, QUpdateItem, q_topic
from lorestream.state.rows import RowKey
from producers.intake import Intake
from producers.state.bodies import check_json
from producers.state.schemas import QUpdateBody, QUpdateEntry, StateReceipt, WriteFields

Action: TypeAlias = Literal["put", "patch", "delete", "rollback"]

_CHECKED_AT_ONCE_BYTES = 16 * 1024
"""Larger data are checked in a thread: 256 KiB of small numbers take a tenth of a second."""

_REFUSALS = {
    "version_conflict": (
        HTTPStatus.CONFLICT,
        "the document has another version than if_version: read it again",
    ),
    "version_gone": (HTTPStatus.GONE, "this version is no longer kept"),
    "not_found": (HTTPStatus.NOT_FOUND, "there is no such document or version"),
    "document_too_large": (HTTPStatus.CONFLICT, "the patched document would be larger than is allowed"),
    "document_too_deep": (HTTPStatus.CONFLICT, "the patched document would be deeper than is allowed"),
    "upload_incomplete": (
        HTTPStatus.CONFLICT,
        "parts of the upload were erased or have expired: send it again",
    ),
    "too_many_states": (HTTPStatus.CONFLICT, "the table would have too many states"),
    "too_many_actions": (HTTPStatus.CONFLICT, "a state would have too many actions"),
    "not_finite": (HTTPStatus.CONFLICT, "a value would be NaN or infinite"),
}
"""The status and the message for each reason why a write is not applied."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The agent of documents, tables and policies: its lasting stored form, and the player that it is named after."""

    tenant: str
    agent_id: str
    player: str | None


@dataclass(frozen=True, slots=True)
class Written:
    """A durable write: the highest offset of each partition, and the row that its answer gets."""

    event_id: str
    positions: dict[int, int]
    answer: RowKey


@dataclass(frozen=True, slots=True)
class StateWriter:
    """Writes documents and Q-tables to the log. `rows`: where the answers to writes are read.

    The methods that write return once the write is durable. They raise InvalidRequest and HttpError (413) for what can
    never be applied, and Unavailable (Overloaded) when the log accepts no writes.
    """

    intake: Intake
    pseudonyms: Pseudonyms
    rows: RowReader

    def owner(self, tenant: str, agent_id: str) -> Owner:
        """The owner that the id in a path names. Raises InvalidRequest."""
        limits.check_agent_id(agent_id, "id")
        lasting = self.pseudonyms.lasting_agent(tenant, agent_id)
        return Owner(tenant, lasting, self.pseudonyms.agent(tenant, lasting)[1])

    async def write_document(
        self,
        owner: Owner,
        type_: str,
        action: Action,
        fields: WriteFields,
        *,
        data: dict[str, Any] | None = None,
        to: float | None = None,
        traceparent: bytes | None = None,
    ) -> Written:
        """Write a document of any type, internal ones included. Other arguments: those of events.DocumentWrite."""
        event_id = fields.event_id or str(uuid.uuid4())
        event = DocumentWrite(
            tenant=owner.tenant,
            agent_id=owner.agent_id,
            type=type_,
            action=action,
            event_id=event_id,
            accepted_at=self.intake.log_writer.next_accepted_at(),
            agent_player=owner.player,
            data=data,
            to=None if to is None else int(to),
            tick=fields.tick,
            if_version=None if fields.if_version is None else int(fields.if_version),
        )
        positions = await self.intake.append([encode(event, event_id, traceparent)])
        topic = document_topic(type_)
        return Written(event_id, positions, answer_key(owner.tenant, owner.agent_id, topic, event_id))

    async def update_q(self, owner: Owner, body: QUpdateBody, traceparent: bytes | None = None) -> Written:
        """Write updates of a Q-table."""
        updates = _items(body.updates)
        event_id, table = body.event_id or str(uuid.uuid4()), body.table or DEFAULT_TABLE
        event = QUpdate(
            tenant=owner.tenant,
            agent_id=owner.agent_id,
            table=table,
            event_id=event_id,
            updates=updates,
            accepted_at=self.intake.log_writer.next_accepted_at(),
            agent_player=owner.player,
        )
        positions = await self.intake.append([encode(event, event_id, traceparent)])
        return Written(
            event_id, positions, answer_key(owner.tenant, owner.agent_id, q_topic(table), event_id)
        )

    async def receipt(self, written: Written, timeout_s: float | None) -> StateReceipt:
        """The receipt of a write, with its answer if that comes within `timeout_s`; None: without waiting.

        Raises HttpError when the write was refused. An outage of the store is no error: the write is durable.
        """
        receipt = StateReceipt(written.event_id, tokens.token(written.positions))
        if timeout_s is None:
            return receipt
        answer = await self._answer(written, timeout_s)
        receipt.applied = answer is not None
        if answer is not None:
            _check_applied(answer, receipt)
            if answer.version is not None:
                receipt.version = answer.version
        return receipt

    async def _answer(self, written: Written, timeout_s: float) -> Answer | None:
        """None when it did not come in time, and when an erasure has taken the write."""
        if not await self.intake.wait_until_processed(written.positions, timeout_s):
            return None
        try:
            [row] = await self.rows.rows([written.answer])
        except Unavailable:
            return None
        return None if row is None else documents.decode_answer(row)


async def checked_data(type_: str, data: dict[str, Any] | list[Any]) -> dict[str, Any]:
    """The data of a put or of a merge patch as it is written; Lua's empty list is an empty object.

    Raises InvalidRequest with its path, and HttpError (413) for data above MAX_DOCUMENT_BYTES.
    """
    if isinstance(data, list):
        return {}
    try:
        size = len(msgspec.json.encode(data))
    except RecursionError as error:
        raise InvalidRequest("nested too deeply", path="data") from error
    if size > MAX_DOCUMENT_BYTES:
        raise HttpError(
            413,
            "document_too_large",
            f"{size} bytes as JSON; a document may have at most {MAX_DOCUMENT_BYTES}",
            path="data",
            max_bytes=MAX_DOCUMENT_BYTES,
        )
    if size > _CHECKED_AT_ONCE_BYTES:
        await asyncio.to_thread(check_json, data, "data")
    else:
        check_json(data, "data")
    known_types.check(type_, data)
    return data


def encode(event: StateEvent, event_id: str | None, traceparent: bytes | None) -> NewRecord:
    """The log record of an event. Raises HttpError (413) if it is larger than readers accept.

    Numbers may grow when they are written again, so that the limit of the body does not guarantee this.
    """
    record = events.encode(event, event_id=event_id, traceparent=traceparent)
    if len(record.value) > MAX_VALUE_BYTES:
        raise HttpError(
            413,
            "too_large",
            f"{len(record.value)} bytes in the log, where a write may have at most {MAX_VALUE_BYTES}: send fewer at once",
            max_bytes=MAX_VALUE_BYTES,
        )
    return record


def _items(updates: Sequence[QUpdateEntry]) -> tuple[QUpdateItem, ...]:
    """Raises InvalidRequest for an `alpha` that is missing or has no meaning."""
    for index, update in enumerate(updates):
        if (update.op == "toward") != (update.alpha is not None):
            fault = "toward needs alpha" if update.alpha is None else f"{update.op} takes no alpha"
            raise InvalidRequest(fault, path=f"updates[{index}].alpha")
    return tuple(QUpdateItem(one.state, one.action, one.op, one.value, one.alpha) for one in updates)


def _check_applied(answer: Answer, receipt: StateReceipt) -> None:
    """Raise HttpError for the answer to a refused write. Its details have `current`, the present version."""
    if answer.applied:
        return
    code = answer.code or "refused"
    status, message = _REFUSALS.get(code, (HTTPStatus.CONFLICT, "the write was refused"))
    current = {} if answer.current is None else {"current": answer.current}
    raise HttpError(
        status,
        code,
        f"{message}; nothing was changed",
        **current,
        event_id=receipt.event_id,
        token=receipt.token,
    )
