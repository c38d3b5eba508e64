"""The port of the catalogue: which collections a deployment has, and which of them is searched.

One collection is active, that is, searched; all are kept up to date until they are dropped. The setting
`LORESTREAM_STORE__COLLECTION` is an alias for the active one; readers and writers use the collection's own name. A
replay creates another collection, and a swap switches the alias to it.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lorestream.ports import VectorStore

REPLACED_RETENTION_S = 60.0
"""A collection that was active is kept for at least this long, so that searches that began in it can end in it."""
CREATION_TIMEOUT_S = 900.0
"""A collection whose creation has not ended after this time was left by a process that died; it may be deleted."""
_MAX_SKEW_S = 60.0
"""How far the clocks of the processes may differ."""


def retention_left_s(since: float, now: float, retention_s: float) -> float:
    """How many seconds a collection must still be kept that is not used any more `since` then (Unix seconds).

    0.0 when it may be deleted; also when `since` is further in the future than any process sets it: the clock was
    wrong then, and nobody should have to wait until that time has come.
    """
    left = since + retention_s - now
    return left if 0.0 < left <= retention_s + CREATION_TIMEOUT_S + _MAX_SKEW_S else 0.0


CheckpointOf = Callable[[str, str], Awaitable[bool]]
"""Whether the consumer group of a collection, by its name and its run, has committed offsets. May raise Unavailable."""

REFILLED = "refilled"
"""Prefix of the `run` of a first collection that is filled again from the beginning of the log."""


async def no_checkpoint(_name: str, _run: str) -> bool:
    """A CheckpointOf for a catalogue without a log."""
    return False


def refilled_run(run: str = "") -> str:
    """A new run for a collection that had `run`: its consumer group begins at the beginning of the log."""
    return f"{run or REFILLED}-{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class Model:
    """The embedding model of a collection. `kind` and `name` say how to load it, if a replay has chosen it."""

    model_id: str
    dim: int
    kind: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection, as the catalogue lists it."""

    name: str
    model: Model
    run: str = ""
    """Identifies the replay or compaction that created it; empty for the first collection of an alias."""
    active: bool = False
    """Whether this collection is the one that is searched."""
    complete: bool = True
    """Whether it contains all memories that it should. If not, a replay is filling it, or was interrupted."""
    replaced_at: float | None = None
    """When it stopped being active, in Unix seconds; only for the last active one, to which a rollback returns."""
    switching: bool = False
    """Whether the alias is about to be switched from it or to it: then a write must be finished in it as well."""


class Catalogue(Protocol):
    """The collections of one alias. Every method raises Unavailable on an outage, and Misconfigured."""

    async def ensure_active(self, model: Model) -> Collection:
        """The active collection. If there is none, the first one is created for this model.

        A store that is created while the log has a checkpoint of the store before it gets a new run, so that it is
        filled from the beginning of the log.
        """
        ...

    async def list_all(self) -> Sequence[Collection]:
        """All collections, the active one first, then by name."""
        ...

    async def create(self, name: str, model: Model, run: str) -> None:
        """Create an empty, incomplete collection. Raises OperationRefused for a name that is in use."""
        ...

    async def open(self, name: str) -> VectorStore:
        """The store of a collection. The caller closes it with `close`."""
        ...

    async def close(self, name: str) -> None:
        """Close the store of a collection, if it is open."""
        ...

    async def mark_complete(self, name: str) -> None:
        """Note that the collection holds all that it should."""
        ...

    async def announce_switch(self, names: Sequence[str]) -> None:
        """Mark these collections, and no others, as switching; an empty sequence ends the announcement."""
        ...

    async def swap(self, name: str, at: float) -> None:
        """Make a collection the active one, in one step, and note `at`, Unix seconds, for the replaced one.

        In the same step it is marked as complete.
        """
        ...

    async def mark_deleted(self, name: str, at: float) -> None:
        """Remove a collection from the list, so that every process closes it. `at`: Unix seconds."""
        ...

    async def pending_deletions(self) -> Mapping[str, float]:
        """Names that are marked as deleted and still exist, with the time of their mark in Unix seconds.

        A collection that is just being created is among them, with a time in the future: `CREATION_TIMEOUT_S` after
        its creation has begun, or later.
        """
        ...

    async def delete(self, name: str) -> None:
        """Delete the data of a collection that is marked as deleted. Does nothing for any other name."""
        ...
