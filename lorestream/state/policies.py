"""Policies: bytes of at most 16 MiB, stored in parts. A version becomes visible with its manifest, a document.

The manifest is a document of the type `policy:NAME`, so a policy has the versions and the rollback of documents. Its parts
are rows of their own, which a rollback shares.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from lorestream.state.documents import Document
from lorestream.state.rows import RowKey, RowKind

MAX_BYTES = 16 * 2**20
PART_BYTES = 256 * 1024
"""The size of every part but the last."""
PART_LIFETIME_S = 86_400.0
"""How long parts are kept that no manifest names: those of an upload that was not completed."""

DEFAULT_NAME = "main"

PolicyName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
Format: TypeAlias = Literal["safetensors", "npy", "raw"]


class Manifest(msgspec.Struct, frozen=True):
    """The data of a policy's document: `sha256` of all bytes (hex), `size` in bytes, and where the parts are."""

    format: Format
    size: int
    sha256: str
    upload: str
    """Identifies the upload; part of the keys of its parts."""
    parts: int


def policy_type(name: str) -> str:
    """The internal type of a policy's document."""
    return f"policy:{name}"


def policy_name(type_: str) -> str | None:
    """The name of the policy with this document type; None for other types."""
    return type_.removeprefix("policy:") if type_.startswith("policy:") else None


def part_key(tenant: str, agent_id: str, name: str, upload: str, index: int) -> RowKey:
    """The row of one part. Its body is a JSON string: the bytes in base64."""
    return RowKey(tenant, agent_id, RowKind.POLICY_PART, (name, upload, index))


def part_keys(tenant: str, agent_id: str, name: str, manifest: Manifest) -> list[RowKey]:
    """The rows of all parts, in their order."""
    return [part_key(tenant, agent_id, name, manifest.upload, index) for index in range(manifest.parts)]


def manifest_of(document: Document) -> Manifest | None:
    """The manifest in a policy's document; None for a deletion."""
    return None if document.deleted else msgspec.convert(document.data, Manifest)
