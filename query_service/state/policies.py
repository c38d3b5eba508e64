"""Policies: the bytes of one version, read part by part and checked before any of them is sent."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec
import structlog

from lorestream.state import policies
from query_service.state import documents
from query_service.state.documents import CURRENT, Which, gone

if TYPE_CHECKING:
    from collections.abc import Callable

    from lorestream.memories import AgentKey
    from lorestream.state.policies import Manifest
    from query_service.state.rows import VisibleRows

Share = TypeVar("Share")

_log = structlog.get_logger("lorestream.query")
_decoder = msgspec.json.Decoder(bytes)  # a JSON string in base64

MAX_ATTEMPTS = 4
"""How often the manifest is read again, when parts of the version that it names were removed meanwhile."""
PARTS_PER_STEP = 4
"""Parts that are read together: 1 MiB."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A version of a policy: its number, and what its manifest says."""

    version: int
    manifest: Manifest


async def find(rows: VisibleRows, agent: AgentKey, name: str, which: Which = CURRENT) -> Policy:
    """The version of the policy, without its bytes. Raises as `documents.find`."""
    document = await documents.find(rows, agent, policies.policy_type(name), which)
    manifest = policies.manifest_of(document)
    if manifest is None:
        raise documents.not_found("it was deleted")
    return Policy(document.version, manifest)


async def read(
    rows: VisibleRows,
    agent: AgentKey,
    name: str,
    which: Which,
    policy: Policy,
    *,
    take: Callable[[int], Share],
) -> tuple[Policy, list[bytes], Share]:
    """The version of the policy and all its parts, whose SHA-256 is that of the manifest.

    `policy`: what `find` has just found; where its parts are not there any more, it is found again. `take`: returns the
    memory for so many bytes, or raises. Raises as `documents.find`; HttpError (410) also for a version whose parts are
    not there any more.
    """
    for _ in range(MAX_ATTEMPTS):
        share = take(policy.manifest.size)
        parts = await _read_parts(rows, agent, name, policy.manifest)
        if parts is not None:
            return policy, parts, share
        del share  # before that of another version is taken
        tried, policy = policy, await find(rows, agent, name, which)
        if policy == tried:  # no newer version has replaced it
            break
    raise gone("its parts were erased, or removed just now")


async def _read_parts(
    rows: VisibleRows, agent: AgentKey, name: str, manifest: Manifest
) -> list[bytes] | None:
    """The parts of a version; None if they are not exactly what its manifest says."""
    digest = hashlib.sha256()
    parts: list[bytes] = []
    keys = policies.part_keys(agent.tenant, agent.agent_id, name, manifest)
    async for row in rows.each(keys, PARTS_PER_STEP):
        if row is None:
            return None
        parts.append(_decoder.decode(row.body))
        digest.update(parts[-1])
    if digest.hexdigest() != manifest.sha256:
        _log.error(
            "a stored policy is damaged: its SHA-256 is not that of its manifest, and it is not shown; write it again",
            upload=manifest.upload,
        )
        return None
    return parts
