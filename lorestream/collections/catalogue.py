"""The collections of a deployment: one is searched, all are fed, until one is dropped.

Readers and writers speak of a collection by its own name; which of them is searched is what the alias says
(`LORESTREAM_STORE__COLLECTION`). A replay makes another one, and a swap turns the alias to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lorestream.ports import VectorStore

REPLACED_LIVES_S = 60.0
"""How long a collection that was replaced stays, at least: searches that began in it are to end in it."""


@dataclass(frozen=True, slots=True)
class Model:
    """What fills a collection. `kind` and `name` say how to load it, where a replay has chosen it."""

    model_id: str
    dim: int
    kind: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection. `run` is empty for the first behind an alias, and names the replay that made another."""

    name: str
    model: Model
    run: str = ""
    active: bool = False
    """It is the one that is searched."""
    complete: bool = True
    """It holds all that it should; otherwise a replay is still filling it, or was broken off."""
    replaced_at: float | None = None
    """Unix seconds, of the one that was searched before: a rollback goes back to it."""
    switching: bool = False
    """The alias is about to turn from it or to it: a write is finished only when it is finished in it as well."""


class Catalogue(Protocol):
    """Which collections there are. Every method raises Unavailable on an outage, and Misconfigured."""

    async def ensure_active(self, model: Model) -> Collection:
        """The collection that is searched; where there is none, one for this model is made."""
        ...

    async def list_all(self) -> Sequence[Collection]:
        """All of them, the one that is searched first, then by name."""
        ...

    async def create(self, name: str, model: Model, run: str) -> None:
        """Note an empty collection, to be filled from now on. Raises OperationRefused for a name that is taken."""
        ...

    async def open(self, name: str) -> VectorStore:
        """The store of one of them. Whoever opens it closes it by `close`."""
        ...

    async def close(self, name: str) -> None:
        """Give up what `open` has opened, if it is open."""
        ...

    async def mark_complete(self, name: str) -> None:
        """Note that it holds all that it should."""
        ...

    async def announce_switch(self, names: Sequence[str]) -> None:
        """Note that the alias is about to turn between these, and between no others; none = it has turned."""
        ...

    async def swap(self, name: str, at: float) -> None:
        """Turn the alias to it, in one step; `at`, Unix seconds, is when the other one was replaced."""
        ...

    async def mark_deleted(self, name: str, at: float) -> None:
        """List it no more, so that everybody closes it; `at`, Unix seconds, stays noted until it is deleted."""
        ...

    async def pending_deletions(self) -> Mapping[str, float]:
        """What was withdrawn and not yet deleted, with its time: a drop is under way, or was broken off.

        One that is still in the making stands there, too, with a time to come.
        """
        ...

    async def delete(self, name: str) -> None:
        """Remove what was withdrawn, with all that lies in it; whatever else has that name stays."""
        ...
