"""Uploads of policies: the bytes become records of a bounded size; a version becomes visible with its manifest.

An upload that ends before its manifest leaves parts behind that nothing names, and the worker removes them a day later.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from dataclasses import dataclass, field
from typing import Any

from lorestream.access.rate_limits import RateLimits
from lorestream.errors import InvalidRequest, Overloaded
from lorestream.events import PolicyPart
from lorestream.http.request import ApiRequest, decompress
from lorestream.ports import NewRecord
from lorestream.state.policies import MAX_BYTES, PART_BYTES, Format, Manifest
from producers.state.formats import least_size
from producers.state.writer import Owner, StateWriter, encode

PARTS_PER_APPEND = 4
"""Parts that are appended together, which must succeed within the limit of one append. Also bounds an upload's memory."""
MAX_COMPRESSED_UPLOADS = 4
"""Compressed uploads at a time: each is kept in memory as a whole until it has arrived."""

_IDENTITY = "identity"


class PolicyUploads:
    """Appends the bodies of requests to the log, as parts of policies."""

    def __init__(self, writer: StateWriter, limits: RateLimits) -> None:
        self._writer = writer
        self._limits = limits
        self._compressed = 0

    async def store(self, request: ApiRequest, owner: Owner, name: str, form: Format) -> Manifest:
        """Append the body, and return once all parts are durable.

        Raises InvalidRequest for an empty body and for bytes of another format, HttpError (413) above MAX_BYTES,
        RateLimited before anything was appended, Unavailable (Overloaded) when the log accepts no writes.
        """
        upload = _Upload(self._writer, owner, name, form)
        encoding = request.encoding
        if encoding is None or encoding.strip().lower() in {"", _IDENTITY}:
            length = request.content_length
            await self._check_rate(request, MAX_BYTES if length is None else min(length, MAX_BYTES))
            async for chunk in request.chunks(MAX_BYTES):
                await upload.add(chunk)
        else:
            raw = await self._inflated(request, encoding)
            await self._check_rate(request, len(raw))
            for start in range(0, len(raw), PART_BYTES):
                await upload.add(raw[start : start + PART_BYTES])
        return await upload.finish()

    async def _check_rate(self, request: ApiRequest, byte_count: int) -> None:
        parts = max(1, -(-byte_count // PART_BYTES))
        await self._writer.intake.check_rate(self._limits, request.principal, parts)

    async def _inflated(self, request: ApiRequest, encoding: str) -> bytes:
        if self._compressed >= MAX_COMPRESSED_UPLOADS:
            raise Overloaded(
                f"{MAX_COMPRESSED_UPLOADS} compressed uploads are in progress: send it uncompressed"
            )
        self._compressed += 1
        try:
            raw = b"".join([chunk async for chunk in request.chunks(MAX_BYTES)])
            return await asyncio.to_thread(decompress, raw, encoding, MAX_BYTES)
        finally:
            self._compressed -= 1


@dataclass(slots=True)
class _Upload:
    """One upload: what has arrived and is not appended yet, and what the manifest needs to know about the rest."""

    writer: StateWriter
    owner: Owner
    name: str
    form: Format
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    pending: bytearray = field(default_factory=bytearray)
    digest: Any = field(default_factory=hashlib.sha256)
    """SHA-256 of all bytes. hashlib does not export its type."""
    size: int = 0
    parts: int = 0
    least_size: int | None = None
    """What the size must be at least, as the header of the format says; None before the header has arrived."""

    async def add(self, chunk: bytes) -> None:
        """Add bytes, and append the parts that are complete once there are PARTS_PER_APPEND of them."""
        self.digest.update(chunk)
        self.size += len(chunk)
        self.pending += chunk
        while len(self.pending) >= PARTS_PER_APPEND * PART_BYTES:
            await self._append(PARTS_PER_APPEND * PART_BYTES)

    async def finish(self) -> Manifest:
        """Append the rest. Raises InvalidRequest when the whole is no policy of the format."""
        if not self.size:
            raise InvalidRequest("the body is empty: send the bytes of the policy")
        if self.pending:
            await self._append(len(self.pending))
        assert self.least_size is not None
        if self.size < self.least_size:
            raise InvalidRequest(
                f"{self.size} bytes, but its header says at least {self.least_size}: the file is not complete",
                path="format",
            )
        return Manifest(self.form, self.size, self.digest.hexdigest(), self.id, self.parts)

    async def _append(self, byte_count: int) -> None:
        if self.least_size is None:
            self.least_size = least_size(self.form, self.pending)
        group = memoryview(bytes(self.pending[:byte_count]))
        del self.pending[:byte_count]
        records = [self._part(bytes(group[at : at + PART_BYTES])) for at in range(0, len(group), PART_BYTES)]
        await self.writer.intake.append(records)

    def _part(self, content: bytes) -> NewRecord:
        part = PolicyPart(
            tenant=self.owner.tenant,
            agent_id=self.owner.agent_id,
            name=self.name,
            upload=self.id,
            index=self.parts,
            content=content,
            accepted_at=self.writer.intake.log_writer.next_accepted_at(),
            agent_player=self.owner.player,
        )
        self.parts += 1
        return encode(part, None, None)
