"""Translation between LangGraph and Lorestream: items and memories, filters."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from langgraph.store.base import PutOp, SearchItem, get_text_at_path

from lorestream import limits
from lorestream.client.models import Event, FoundMemory
from lorestream.langgraph.namespaces import agent_of, namespace_of

TYPE = "langgraph"
"""The event type of memories that hold items."""
ITEM_FIELDS = "langgraph"
"""The metadata field with the store's own data: the item's key, when it was created, whether to index it."""
MEMORY_KEY_PREFIX = "lorestream:"
"""Prefix of the key of a memory that holds no item, such as one that a game wrote. The memory id follows."""

ItemId: TypeAlias = tuple[str, str]
"""(agent id, key)."""

_OPERATORS = {"$eq": "eq", "$ne": "ne", "$gt": "gt", "$gte": "gte", "$lt": "lt", "$lte": "lte"}


@dataclass(frozen=True, slots=True)
class ItemFields:
    """The store's own data in the memory of an item. `created_at`: Unix seconds, None for a first version."""

    key: str
    created_at: float | None


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
    stored = item_fields(before)
    created_at = before.timestamp if stored is None or stored.created_at is None else stored.created_at
    return {
        **event,
        "metadata": {**metadata, ITEM_FIELDS: {**metadata[ITEM_FIELDS], "created_at": created_at}},
    }


def item(memory: FoundMemory) -> SearchItem:
    """The item that a memory holds. For a memory without an item: its text and metadata as the value."""
    stored = item_fields(memory)
    created_at = memory.timestamp if stored is None or stored.created_at is None else stored.created_at
    if stored is None:
        value = {**memory.metadata, "text": memory.text}
    else:
        value = {name: part for name, part in memory.metadata.items() if name != ITEM_FIELDS}
    return SearchItem(
        namespace=namespace_of(memory.agent_id) or tuple(memory.agent_id.split(".")),
        key=key_of(memory),
        value=value,
        created_at=limits.utc(created_at),
        updated_at=limits.utc(memory.timestamp),
        score=memory.score,
    )


def item_fields(memory: FoundMemory) -> ItemFields | None:
    """The store's own data in the memory of an item; None when the memory holds no item.

    Anyone may write a memory of this type with metadata of any shape. One whose key is not a key holds no item; a time
    that is not a number counts as none.
    """
    stored = memory.metadata.get(ITEM_FIELDS)
    if memory.type != TYPE or not isinstance(stored, dict):
        return None
    fields = cast("dict[str, object]", stored)
    key, created_at = fields.get("key"), fields.get("created_at")
    if not isinstance(key, str) or key.startswith(MEMORY_KEY_PREFIX):
        return None
    if isinstance(created_at, bool) or not isinstance(created_at, int | float):
        created_at = None
    return ItemFields(key, created_at)


def key_of(memory: FoundMemory) -> str:
    """The key of the item in a memory. A memory without an item has a key made of its id."""
    stored = item_fields(memory)
    return MEMORY_KEY_PREFIX + memory.id if stored is None else stored.key


def newest_versions(memories: Iterable[FoundMemory]) -> dict[ItemId, FoundMemory]:
    """The newest memory of each item. Older versions may still be there: they are deleted after the put."""
    newest: dict[ItemId, FoundMemory] = {}
    for memory in memories:
        item_id = memory.agent_id, key_of(memory)
        if item_id not in newest or sort_key(memory) > sort_key(newest[item_id]):
            newest[item_id] = memory
    return newest


def sort_key(memory: FoundMemory) -> tuple[float, float, str]:
    """Sorts memories from old to new."""
    return memory.timestamp, memory.accepted_at, memory.id


def keys_filter(keys: Collection[str]) -> dict[str, Any]:
    """The filter for all versions of the items with these keys.

    Named without "metadata.", as no filter of a caller is, so that both can be in one object.
    """
    return {"type": TYPE, f"{ITEM_FIELDS}.key": {"in": list(keys)}}


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
        if not name or any(sign in name for sign in '."\\'):
            raise ValueError(f"{where}: a filter cannot name fields with dots, double quotes or backslashes")
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
