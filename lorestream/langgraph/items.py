"""What LangGraph calls things, and what Lorestream does: namespaces and agents, items and memories, filters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from langgraph.store.base import (
    InvalidNamespaceError,
    MatchCondition,
    PutOp,
    SearchItem,
    get_text_at_path,
)

from lorestream.client.models import Event, FoundMemory

MAX_AGENT_ID_CHARS = 256
TYPE = "langgraph"
"""The type of the memories that hold items."""
OWN = "langgraph"
"""Where their metadata keeps what is the store's own: the item's key, when it was first put, whether to index it."""
FOREIGN = "lorestream:"
"""Begins the key of a memory that is no item: one that a game wrote, for instance. Its id follows."""

_OPERATORS = {"$eq": "eq", "$ne": "ne", "$gt": "gt", "$gte": "gte", "$lt": "lt", "$lte": "lte"}


def agent_of(namespace: Sequence[str]) -> str:
    """The agent that holds a namespace: its labels with dots between them, which no label may have.

    Raises InvalidNamespaceError.
    """
    for label in namespace:
        if not isinstance(label, str) or not label or "." in label:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidNamespaceError(
                f"a label of a namespace is a text that is not empty and has no dot: {namespace}"
            )
    agent_id = ".".join(namespace)
    if not 1 <= len(agent_id) <= MAX_AGENT_ID_CHARS:
        raise InvalidNamespaceError(
            f"a namespace has 1 to {MAX_AGENT_ID_CHARS} characters, dots between labels included: {namespace}"
        )
    return agent_id


def namespace_of(agent_id: str) -> tuple[str, ...] | None:
    """The namespace that an agent holds, None where its id is none: one with an empty label."""
    labels = tuple(agent_id.split("."))
    return labels if all(labels) else None


def is_below(agent_id: str, prefix: str) -> bool:
    """Whether the agent's namespace lies below the prefix's; below "" lie all."""
    return namespace_of(agent_id) is not None and (not prefix or agent_id.startswith(f"{prefix}."))


def matches(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    """Whether a namespace begins, or ends, with the labels of the condition. `*` is any label."""
    size = len(condition.path)
    if len(namespace) < size:
        return False
    labels = namespace[:size] if condition.match_type == "prefix" else namespace[len(namespace) - size :]
    return all(wanted in {"*", label} for label, wanted in zip(labels, condition.path, strict=True))


def event(op: PutOp, fields: Sequence[str]) -> Event:
    """What is written for the first put of an item. `fields` are embedded where it names none; ["$"] is all.

    Raises ValueError where Lorestream has no such item.
    """
    value = dict(op.value or {})
    if OWN in value:
        raise ValueError(f"a value of an item in Lorestream cannot have the key {OWN!r}")
    if op.key.startswith(FOREIGN):
        raise ValueError(f"keys that begin with {FOREIGN!r} name memories that are there already")
    if op.ttl is not None and op.ttl <= 0:
        raise ValueError("the ttl of an item is in minutes, and above 0")
    paths = () if op.index is False else fields if op.index is None else op.index
    text = "\n".join(text for path in paths for text in get_text_at_path(value, path)).strip()
    own: dict[str, Any] = {"key": op.key}
    if not text:
        own["index"] = False
    return {
        "agent_id": agent_of(op.namespace),
        "type": TYPE,
        "text": text or op.key or TYPE,
        "metadata": {**value, OWN: own},
        "ttl": 0 if op.ttl is None else op.ttl * 60,
    }


def again(event: Event, before: FoundMemory) -> Event:
    """What is written where an item replaces one."""
    metadata = event.get("metadata", {})
    created_at = (own_part(before) or {}).get("created_at", before.timestamp)
    return {**event, "metadata": {**metadata, OWN: {**metadata[OWN], "created_at": created_at}}}


def item(memory: FoundMemory) -> SearchItem:
    """The item that a memory holds. A memory that holds none is one with its text and its metadata as value."""
    own = own_part(memory)
    if own is None:
        key, created_at = FOREIGN + memory.id, memory.timestamp
        value = {**memory.metadata, "text": memory.text}
    else:
        key, created_at = own["key"], own.get("created_at", memory.timestamp)
        value = {name: part for name, part in memory.metadata.items() if name != OWN}
    return SearchItem(
        namespace=tuple(memory.agent_id.split(".")),
        key=key,
        value=value,
        created_at=datetime.fromtimestamp(created_at, UTC),
        updated_at=datetime.fromtimestamp(memory.timestamp, UTC),
        score=memory.score,
    )


def own_part(memory: FoundMemory) -> dict[str, Any] | None:
    """What the store keeps in an item's memory, None where a memory holds no item."""
    own = memory.metadata.get(OWN)
    return own if memory.type == TYPE and isinstance(own, dict) and "key" in own else None


def newest_versions(memories: Sequence[FoundMemory]) -> list[FoundMemory]:
    """Without those that a newer one of the same key has replaced, but that are not deleted yet."""
    newest: dict[tuple[str, str], FoundMemory] = {}
    places = [
        (memory.agent_id, (own_part(memory) or {"key": FOREIGN + memory.id})["key"]) for memory in memories
    ]
    for place, memory in zip(places, memories, strict=True):
        if place not in newest or order(memory) > order(newest[place]):
            newest[place] = memory
    return [memory for place, memory in zip(places, memories, strict=True) if newest[place] is memory]


def order(memory: FoundMemory) -> tuple[float, float, str]:
    """Rises from old to new."""
    return memory.timestamp, memory.accepted_at, memory.id


def of_key(key: str) -> dict[str, Any]:
    """The filter that the versions of one item pass."""
    return {"type": TYPE, f"metadata.{OWN}.key": key}


def conditions(wanted: Mapping[str, Any] | None, *, indexed: bool) -> dict[str, Any]:
    """LangGraph's filter as Lorestream's. `indexed`: only what a question can find.

    Raises ValueError for what Lorestream cannot ask for.
    """
    found: dict[str, Any] = dict(_conditions(wanted or {}, "metadata"))
    if indexed:
        found[f"metadata.{OWN}.index"] = {"ne": False}
    return found


def _conditions(wanted: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in wanted.items():
        where = f"{path}.{name}"
        if not name or "." in name or '"' in name:
            raise ValueError(f"{where}: names with dots or double quotes cannot be asked for")
        if not isinstance(value, Mapping):
            yield where, _scalar(value, where)
        elif any(key.startswith("$") for key in value):
            if unknown := value.keys() - _OPERATORS.keys():
                raise ValueError(f"{where}: {', '.join(sorted(unknown))} is none of {', '.join(_OPERATORS)}")
            yield where, {_OPERATORS[key]: _scalar(bound, where) for key, bound in value.items()}
        elif value:
            yield from _conditions(value, where)
        else:
            raise ValueError(f"{where}: an empty object cannot be asked for")


def _scalar(value: object, where: str) -> str | float | bool:
    if not isinstance(value, str | int | float | bool):
        raise ValueError(f"{where}: only texts, numbers and booleans can be asked for, not {value!r}")  # noqa: TRY004
    return value
