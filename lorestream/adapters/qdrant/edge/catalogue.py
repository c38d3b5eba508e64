"""The embedded collections: a directory each, and one file that says which of them is searched.

ALIAS             the first collection: a directory of its own name (see edge_shard)
NAME              another one, made by a replay
ALIAS.json        what there is besides the first; missing as long as there is nothing
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from lorestream import durable
from lorestream.adapters.qdrant.edge import shard
from lorestream.adapters.qdrant.edge.store import EdgeStore
from lorestream.collections.catalogue import Collection, Model
from lorestream.errors import Misconfigured, ModelMismatch, OperationRefused, Unavailable


class _Entry(msgspec.Struct, omit_defaults=True):
    """A collection as the file has it."""

    model_id: str
    dim: int
    kind: str | None = None
    model: str | None = None
    run: str = ""
    complete: bool = True
    replaced_at: float | None = None


class _Kept(msgspec.Struct):
    """The file."""

    active: str
    collections: dict[str, _Entry]
    pending_deletions: dict[str, float] = {}
    """Names of directories that are to go, and the Unix time since when."""


class EdgeCatalogue:
    """A Catalogue in one directory, which belongs to this process alone."""

    def __init__(self, directory: Path, alias: str) -> None:
        """Raises Misconfigured when the file cannot be read."""
        self._directory = directory
        self._alias = alias
        self._file = directory / f"{alias}.json"
        self._open: dict[str, EdgeStore] = {}
        self._switching: frozenset[str] = frozenset()
        self._kept = self._read()

    async def ensure_active(self, model: Model) -> Collection:
        """The collection that is searched; where there is none, one for this model."""
        if self._kept is None:
            # Opening it makes it where it is missing, and refuses another model: the file comes after that.
            self._open[self._alias] = _open(self._directory / self._alias, model)
            entry = _Entry(model.model_id, model.dim, model.kind, model.name)
            self._kept = _Kept(self._alias, {self._alias: entry})
        active = (await self.list_all())[0]
        if active.model.kind is None and active.model.model_id != model.model_id:
            raise ModelMismatch(
                f"{self._directory / active.name} was filled by {active.model.model_id}, not by {model.model_id}:"
                " start with that model, or with another --data"
            )
        return active

    async def list_all(self) -> Sequence[Collection]:
        """All of them, the one that is searched first."""
        kept = self._known
        found = [
            Collection(
                name,
                Model(one.model_id, one.dim, one.kind, one.model),
                one.run,
                active=name == kept.active,
                complete=one.complete,
                replaced_at=one.replaced_at,
                switching=name in self._switching,
            )
            for name, one in kept.collections.items()
        ]
        return sorted(found, key=lambda one: (not one.active, one.name))

    async def create(self, name: str, model: Model, run: str) -> None:
        """Note an empty collection. Raises OperationRefused for a name that is taken."""
        if name in self._known.collections:
            raise OperationRefused(
                f"there is a collection {name} already: choose another name, or drop it first"
            )
        kept = self._known
        if name in kept.pending_deletions:
            raise OperationRefused(f"{name} is just being made or dropped: try again in some minutes")
        if (self._directory / name).exists():
            raise OperationRefused(
                f"there is a {self._directory / name} already: choose another name, or remove it"
            )
        kept.pending_deletions[name] = math.inf  # what a killed process leaves of it goes at the next start
        try:
            self._keep()
            await shard.make_elsewhere(self._directory / name, model_id=model.model_id, dim=model.dim)
        except BaseException:
            kept.pending_deletions[name] = 0.0
            raise
        del kept.pending_deletions[name]
        kept.collections[name] = _Entry(
            model.model_id, model.dim, model.kind, model.name, run, complete=False
        )
        self._keep()

    async def open(self, name: str) -> EdgeStore:
        """The store of one of them, loaded once."""
        if name not in self._open:
            entry = self._known.collections[name]
            self._open[name] = _open(self._directory / name, Model(entry.model_id, entry.dim))
        return self._open[name]

    async def close(self, name: str) -> None:
        """Close its store, if it is open."""
        if store := self._open.pop(name, None):
            await store.close()

    async def close_all(self) -> None:
        """Close every store."""
        for name in list(self._open):
            await self.close(name)

    async def mark_complete(self, name: str) -> None:
        """Note that it holds all that it should."""
        self._known.collections[name].complete = True
        self._keep()

    async def announce_switch(self, names: Sequence[str]) -> None:
        """Note between which the alias is about to turn."""
        self._switching = frozenset(names)

    async def swap(self, name: str, at: float) -> None:
        """Search this one from now on."""
        kept = self._known
        for one in kept.collections.values():
            one.replaced_at = None
        kept.collections[kept.active].replaced_at = at
        kept.collections[name].replaced_at = None
        kept.active = name
        self._keep()

    async def mark_deleted(self, name: str, at: float) -> None:
        """List it no more."""
        if self._known.collections.pop(name, None) is not None:
            self._known.pending_deletions[name] = at
            self._keep()

    async def pending_deletions(self) -> Mapping[str, float]:
        """What the file says is to go."""
        return dict(self._known.pending_deletions)

    async def delete(self, name: str) -> None:
        """Remove its directory."""
        if name not in self._known.pending_deletions:
            return
        await self.close(name)
        try:
            shutil.rmtree(self._directory / name)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise Unavailable(f"{self._directory / name} cannot be removed ({error.strerror})") from error
        del self._known.pending_deletions[name]
        self._keep()

    @property
    def _known(self) -> _Kept:
        assert self._kept is not None, "`first` comes first"
        return self._kept

    def _read(self) -> _Kept | None:
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise Misconfigured(
                f"{self._file} cannot be read ({error}): restore it from a snapshot"
            ) from error
        # The process that was at it is no more, and nobody else has them open.
        kept.pending_deletions = dict.fromkeys(kept.pending_deletions, 0.0)
        return kept

    def _keep(self) -> None:
        durable.write_file(self._file, msgspec.json.format(msgspec.json.encode(self._kept)))


def _open(path: Path, model: Model) -> EdgeStore:
    return EdgeStore.open(path, model_id=model.model_id, dim=model.dim)
