"""The read of one version of a document, alone or in a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from lorestream.memories import EVERYTHING, Scope
from lorestream.state.documents import check_type
from query_service.answer_cache import MAX_TTL_S, ComputedAnswer
from query_service.encoding import entity
from query_service.queries import fingerprint_of, resolve_owner
from query_service.recall import Answer, Read, Recall
from query_service.state import documents
from query_service.state_rest.params import wait_of, which_of

if TYPE_CHECKING:
    from query_service.retrieval import Vector
    from query_service.state_rest.params import OfDocument

_encode = msgspec.json.Encoder().encode


def entity_read(recall: Recall, tenant: str, type_: str, id_: str, params: OfDocument) -> Read:
    """The read of a document of a type that belongs to the agent `id_`. Raises InvalidRequest.

    Its computation raises HttpError: 404 `not_found`, 410 `version_gone`.
    """
    check_type(type_)
    owner, which = resolve_owner(recall.pseudonyms, tenant, id_), which_of(params)
    scope = Scope(tenant, (owner.key.agent_id,))

    async def compute(_: Vector | None) -> ComputedAnswer:
        now = recall.clock.now()
        async with recall.working(scope, EVERYTHING):
            found = await documents.find(recall.rows, owner.key, type_, which)
        return ComputedAnswer(_encode(entity(found, type_, owner.name)), now + MAX_TTL_S)

    after, wait_s = wait_of(params)
    return Read(
        api="entity",
        agents=[owner.key],
        key=fingerprint_of("entity", type_, owner.name, str(which.version), which.at),
        scope=scope,
        filter=EVERYTHING,
        compute=compute,
        after=after,
        wait_s=wait_s,
    )


def entity_response(answer: Answer) -> bytes:
    """An EntityResponse as JSON."""
    return answer.encoded[:-1] + b',"fresh":%b}' % (b"true" if answer.fresh else b"false")
