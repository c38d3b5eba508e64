"""Documents: one version, all kept versions, the documents of a type, and the answers to writes."""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorestream.http.request import HttpError
from lorestream.state import documents
from lorestream.state.rows import RowGroup, RowKind
from lorestream.tokens import list_cursor, parse_list_cursor
from lorestream.turns import Turns
from query_service.state.rows import PageBuilder

if TYPE_CHECKING:
    from lorestream.memories import AgentKey
    from lorestream.state.documents import Answer, Document
    from query_service.state.rows import Page, VisibleRows

_OWNERS_PER_TURN = 4096


@dataclass(frozen=True, slots=True)
class Which:
    """Which version of a document: a number, that at a time (Unix seconds), or the current one."""

    version: int | None = None
    at: float | None = None


CURRENT = Which()


async def find(rows: VisibleRows, agent: AgentKey, type_: str, which: Which = CURRENT) -> Document:
    """The version of the document. Raises HttpError: 404 `not_found`, 410 `version_gone`; Unavailable."""
    current = await current_version(rows, agent, type_)
    if current is None:
        raise not_found()
    if which.version is not None:
        found = await _numbered(rows, agent, type_, current, which.version)
    elif which.at is not None:
        found = await _at_time(rows, agent, type_, current, which.at)
    else:
        found = current
    if found.deleted:
        raise not_found("it was deleted")
    return found


async def known_version(rows: VisibleRows, agent: AgentKey, type_: str, at: float | None) -> Document | None:
    """The current version, or that at a time (Unix seconds); None if there is none, or it was deleted or is not kept."""
    try:
        return await find(rows, agent, type_, Which(at=at))
    except HttpError:
        return None


def not_found(why: str = "this agent has nothing of that name") -> HttpError:
    """The error for a document or a version that never was, or that is deleted."""
    return HttpError(404, "not_found", f"there is no such version: {why}")


def gone(why: str) -> HttpError:
    """The error for a version that is not kept any more."""
    return HttpError(410, "version_gone", f"this version is no longer kept: {why}")


async def current_version(rows: VisibleRows, agent: AgentKey, type_: str) -> Document | None:
    """The current version, which may be a deletion; None if there never was one, or an erasure took it."""
    row = await rows.one(documents.document_key(agent.tenant, agent.agent_id, type_))
    return None if row is None else documents.decode(row)


async def _numbered(
    rows: VisibleRows, agent: AgentKey, type_: str, current: Document, version: int
) -> Document:
    if version > current.version:
        raise not_found(f"the current version is {current.version}")
    if version == current.version:
        return current
    if version < current.oldest:
        raise gone(f"the oldest one is {current.oldest}")
    row = await rows.one(documents.version_key(agent.tenant, agent.agent_id, type_, version))
    if row is None:
        raise gone("it was erased, or removed just now")
    return documents.decode(row)


async def _at_time(rows: VisibleRows, agent: AgentKey, type_: str, current: Document, at: float) -> Document:
    if current.updated_at <= at:
        return current
    async for document in _earlier(rows, agent, type_, current, current.version):
        if document.updated_at <= at:
            return document
    if current.oldest > 1:
        raise gone(f"the oldest one is {current.oldest}, and it was written after that time")
    raise not_found("at that time it was not written yet")


async def _earlier(
    rows: VisibleRows, agent: AgentKey, type_: str, current: Document, before: int
) -> AsyncGenerator[Document]:
    """The kept versions before the current one and before the number `before`, the newest first."""
    last = min(before, current.version) - 1
    keys = [
        documents.version_key(agent.tenant, agent.agent_id, type_, version)
        for version in range(last, current.oldest - 1, -1)
    ]
    async for row in rows.each(keys):
        if row is not None:
            yield documents.decode(row)


async def get_versions(
    rows: VisibleRows,
    agent: AgentKey,
    type_: str,
    encode: Callable[[Document], bytes],
    *,
    limit: int,
    cursor: str | None,
) -> Page:
    """A page of the kept versions, deletions included, the newest first.

    Raises HttpError (404 `not_found`) for a document that never was, InvalidCursor, Unavailable.
    """
    listing = f"versions {type_}"
    before = None if cursor is None else parse_list_cursor(listing, cursor, int)
    current = await current_version(rows, agent, type_)
    if current is None:
        raise not_found()
    page = PageBuilder(limit)
    if before is None or before > current.version:
        page.add(encode(current))
        last = before = current.version
    else:
        last = before
    async for document in _earlier(rows, agent, type_, current, before):
        if not page.left:
            return page.ends(list_cursor(listing, last))
        page.add(encode(document))
        last = document.version
    return page.ends()


async def list_documents(
    rows: VisibleRows,
    tenant: str,
    type_: str,
    encode: Callable[[str, Document], bytes],
    *,
    prefix: str,
    limit: int,
    cursor: str | None,
) -> Page:
    """A page of the documents of a type of all agents, by the agent's stored id. `encode` gets that id.

    Raises InvalidCursor, Unavailable.
    """
    listing = f"documents {type_} {prefix}"
    after = None if cursor is None else parse_list_cursor(listing, cursor, str)
    owners = await rows.store.owners(RowGroup(tenant, RowKind.DOCUMENT, type_))
    page = PageBuilder(limit)
    while True:
        wanted = page.left + 1  # one more than needed shows whether there is a next page
        ids = await _first(owners, prefix, after, wanted)
        keys = [documents.document_key(tenant, agent_id, type_) for agent_id in ids]
        index = 0
        async for row in rows.each(keys):
            if not page.left:
                return page.ends(list_cursor(listing, after or ""))
            after, index = ids[index], index + 1
            document = None if row is None else documents.decode(row)
            if document is not None and not document.deleted:
                page.add(encode(after, document))
        if len(ids) < wanted:
            return page.ends()


async def _first(owners: Sequence[str], prefix: str, after: str | None, count: int) -> list[str]:
    """The first `count` ids with this prefix behind `after`, in order."""
    turns = Turns()
    first: list[str] = []
    for start in range(0, len(owners), _OWNERS_PER_TURN):
        matching = (
            owner
            for owner in owners[start : start + _OWNERS_PER_TURN]
            if owner.startswith(prefix) and (after is None or owner > after)
        )
        first = heapq.nsmallest(count, (*first, *matching))
        await turns.next()
    return first


async def find_answer(rows: VisibleRows, agent: AgentKey, topic: str, event_id: str) -> Answer | None:
    """What became of a write; None while it is not processed, and when its answer is no longer kept."""
    row = await rows.one(documents.answer_key(agent.tenant, agent.agent_id, topic, event_id))
    return None if row is None else documents.decode_answer(row)
