"""Translation between LangGraph and Lorestream: namespaces and agents, items and memories, filters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langgraph.store.base import (
    InvalidNamespaceError,
    MatchCondition,
    PutOp,
    SearchItem,
    get_text_at_path,
)

from lorestream import limits
from lorestream.client.models import Event, FoundMemory
from lorestream.errors import InvalidRequest

TYPE = "langgraph"
"""The event type of memories that hold items."""
ITEM_FIELDS = "langgraph"
"""The metadata field with the store's own data: the item's key, when it was created, whether to index it."""
MEMORY_KEY_PREFIX = "lorestream:"
"""Prefix of the key of a memory that holds no item, such as one that a game wrote. The memory id follows."""

_OPERATORS = {"$eq": "eq", "$ne": "ne", "$gt": "gt", "$gte": "gte", "$lt": "lt", "$lte": "lte"}


def agent_of(namespace: Sequence[str]) -> str:
    """The agent id of a namespace: its labels, joined by dots. A label may not have a dot.

    Raises InvalidNamespaceError.
    """
    for label in namespace:
        if not isinstance(label, str) or not label or "." in label:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidNamespaceError(
                f"a label of a namespace must be a string that is not empty and has no dot: {namespace}"
            )
    agent_id = ".".join(namespace)
    try:
        limits.check_agent_id(agent_id)
    except InvalidRequest as error:
        raise InvalidNamespaceError(
            f"a namespace must have 1 to {limits.MAX_AGENT_ID_CHARS} characters, dots between labels included: {namespace}"
        ) from error
    return agent_id


def namespace_of(agent_id: str) -> tuple[str, ...] | None:
    """The namespace of an agent id; None for an id that is not a namespace, because a label is empty."""
    labels = tuple(agent_id.split("."))
    return labels if all(labels) else None


def is_below(agent_id: str, prefix: str) -> bool:
    """Whether the agent's namespace is below `prefix` (an agent id); every namespace is below ""."""
    return namespace_of(agent_id) is not None and (not prefix or agent_id.startswith(f"{prefix}."))


def matches(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    """Whether a namespace starts (or ends) with the labels of the condition. `*` matches any label."""
    size = len(condition.path)
    if len(namespace) < size:
        return False
    labels = namespace[:size] if condition.match_type == "prefix" else namespace[len(namespace) - size :]
    return all(wanted in {"*", label} for label, wanted in zip(labels, condition.path, strict=True))


def event(op: PutOp, fields: Sequence[str]) -> Event:
    """The event that stores a new item. `fields` are embedded where the put names none; ["$"] is the whole value.

    Raises ValueError for an item that Lorestream cannot store.
    """
    value = dict(op.value or {})
    if ITEM_FIELDS in value:
        raise ValueError(f"the value of an item cannot have the key {ITEM_FIELDS!r}")
    if op.key.startswith(MEMORY_KEY_PREFIX):
        raise ValueError(f"keys that begin with {MEMORY_KEY_PREFIX!r} are reserved for existing memories")
    if op.ttl is not None and op.ttl <= 0:
        raise ValueError("the ttl of an item is in minutes, and must be above 0")
    paths = () if op.index is False else fields if op.index is None else op.index
    text = "\n".join(text for path in paths for text in get_text_at_path(value, path)).strip()
    fields_of_item: dict[str, Any] = {"key": op.key}
    if not text:
        fields_of_item["index"] = False
    return {
        "agent_id": agent_of(op.namespace),
        "type": TYPE,
        "text": text or op.key or TYPE,
        "metadata": {**value, ITEM_FIELDS: fields_of_item},
        "ttl": 0 if op.ttl is None else op.ttl * 60,
    }


def replacement_event(event: Event, before: FoundMemory) -> Event:
    """The event that stores a new version of an item; it keeps the time of creation."""
    metadata = event.get("metadata", {})
    created_at = (item_fields(before) or {}).get("created_at", before.timestamp)
    return {
        **event,
        "metadata": {**metadata, ITEM_FIELDS: {**metadata[ITEM_FIELDS], "created_at": created_at}},
    }


def item(memory: FoundMemory) -> SearchItem:
    """The item that a memory holds. For a memory without an item: its text and metadata as the value."""
    stored = item_fields(memory)
    if stored is None:
        key, created_at = MEMORY_KEY_PREFIX + memory.id, memory.timestamp
        value = {**memory.metadata, "text": memory.text}
    else:
        key, created_at = stored["key"], stored.get("created_at", memory.timestamp)
        value = {name: part for name, part in memory.metadata.items() if name != ITEM_FIELDS}
    return SearchItem(
        namespace=tuple(memory.agent_id.split(".")),
        key=key,
        value=value,
        created_at=limits.utc(created_at),
        updated_at=limits.utc(memory.timestamp),
        score=memory.score,
    )


def item_fields(memory: FoundMemory) -> dict[str, Any] | None:
    """The store's own data in the memory of an item; None when the memory holds no item."""
    stored = memory.metadata.get(ITEM_FIELDS)
    return stored if memory.type == TYPE and isinstance(stored, dict) and "key" in stored else None


def newest_versions(memories: Sequence[FoundMemory]) -> list[FoundMemory]:
    """The newest memory of each key. Older versions may still be there: they are deleted after the put."""
    newest: dict[tuple[str, str], FoundMemory] = {}
    keys = [
        (memory.agent_id, (item_fields(memory) or {"key": MEMORY_KEY_PREFIX + memory.id})["key"])
        for memory in memories
    ]
    for key, memory in zip(keys, memories, strict=True):
        if key not in newest or sort_key(memory) > sort_key(newest[key]):
            newest[key] = memory
    return [memory for key, memory in zip(keys, memories, strict=True) if newest[key] is memory]


def sort_key(memory: FoundMemory) -> tuple[float, float, str]:
    """Sorts memories from old to new."""
    return memory.timestamp, memory.accepted_at, memory.id


def key_filter(key: str) -> dict[str, Any]:
    """The filter for all versions of one item."""
    return {"type": TYPE, f"metadata.{ITEM_FIELDS}.key": key}


def to_filters(wanted: Mapping[str, Any] | None, *, indexed: bool) -> dict[str, Any]:
    """LangGraph's filter as a Lorestream filter. `indexed`: leave out items that are not indexed.

    Raises ValueError for a condition that Lorestream does not have.
    """
    found: dict[str, Any] = dict(_filters(wanted or {}, "metadata"))
    if indexed:
        found[f"metadata.{ITEM_FIELDS}.index"] = {"ne": False}
    return found


def _filters(wanted: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in wanted.items():
        where = f"{path}.{name}"
        if not name or "." in name or '"' in name:
            raise ValueError(f"{where}: a filter cannot name fields with dots or double quotes")
        if not isinstance(value, Mapping):
            yield where, _scalar(value, where)
        elif any(key.startswith("$") for key in value):
            if unknown := value.keys() - _OPERATORS.keys():
                raise ValueError(
                    f"{where}: {', '.join(sorted(unknown))} is not one of {', '.join(_OPERATORS)}"
                )
            yield where, {_OPERATORS[key]: _scalar(bound, where) for key, bound in value.items()}
        elif value:
            yield from _filters(value, where)
        else:
            raise ValueError(f"{where}: a filter cannot have an empty object")


def _scalar(value: object, where: str) -> str | float | bool:
    if not isinstance(value, str | int | float | bool):
        raise ValueError(f"{where}: a filter compares with strings, numbers and booleans, not {value!r}")  # noqa: TRY004
    return value
