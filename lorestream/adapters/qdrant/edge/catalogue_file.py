"""The file of the catalogue: its content, and how it is read and written."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from lorestream import durable
from lorestream.adapters.qdrant.edge import shard
from lorestream.errors import Misconfigured

_NAME = re.compile(r"[A-Za-z0-9_-]{1,200}")
"""What may be the name of a collection, and so of a directory: no path that leads out of this one."""


class Entry(msgspec.Struct, omit_defaults=True):
    """What the file says of one collection."""

    model_id: str
    dim: int
    kind: str | None = None
    model: str | None = None
    run: str = ""
    complete: bool = msgspec.field(default=True, name="whole")
    replaced_at: float | None = None


class State(msgspec.Struct):
    """The content of the file."""

    active: str
    collections: dict[str, Entry]
    pending_deletions: dict[str, float | None] = msgspec.field(
        default_factory=dict[str, float | None], name="withdrawn"
    )
    """The names of directories to delete, each with the Unix time since when.

    Also the one that is being created, since 0: after a crash the next start deletes it. Older versions wrote null
    for that one, which is what JSON makes of infinity.
    """


def read(path: Path) -> State | None:
    """The content of the file, None when there is no file. Raises Misconfigured when it cannot be read or is damaged."""
    try:
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read ({error.strerror}): let this user read it") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise Misconfigured(f"{path} is damaged ({error}): {shard.refill_advice(path.parent)}") from error
    if state.active not in state.collections or not all(
        _NAME.fullmatch(name) for name in (*state.collections, *state.pending_deletions)
    ):
        raise Misconfigured(
            f"{path} is damaged (it names no collection, or one outside of this directory):"
            f" {shard.refill_advice(path.parent)}"
        )
    # The process that used them has ended: nothing has them open, and they may be deleted at once.
    state.pending_deletions = dict.fromkeys(state.pending_deletions, 0.0)
    return state


def write(path: Path, state: State) -> None:
    """Replace the file, durably. Blocks. Raises Unavailable."""
    with durable.translated(path):
        durable.write_file(path, msgspec.json.format(msgspec.json.encode(state)))
