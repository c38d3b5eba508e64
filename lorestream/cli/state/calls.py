"""The verbs `state get|put|patch|versions|rollback`, `records` and `summary`, carried out through the HTTP client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from lorestream.cli import terminal
from lorestream.cli.memories.calls import connect
from lorestream.client import FoundMemory, StateReceipt, Versions


def get(url: str, type_: str, agent_id: str, options: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a document. `options`: further arguments of `MemoryClient.entity`."""
    with connect(url) as client:
        found = client.entity(type_, agent_id, **options)
    if as_json:
        terminal.print_json(found)
        return
    rows = [(name, _plain(value)) for name, value in found.data.items()]
    if rows:
        terminal.print_table({"field": "", "value": ""}, rows)
    tick = "" if found.tick is None else f", tick {found.tick:g}"
    terminal.print_note(f"version {found.version}, written {terminal.local_time(found.updated_at)}{tick}")


def write(
    url: str,
    verb: Literal["put", "patch"],
    document: tuple[str, str],
    data: str,
    options: Mapping[str, Any],
    *,
    wait_s: float,
    as_json: bool,
) -> None:
    """Write a document or a merge patch on it, and print its version; waits up to `wait_s` seconds until it is applied.

    `document`: its type and its agent. `data`: a JSON object; - reads it from stdin.
    """
    text = terminal.read_stdin() if data == "-" else data
    fields = terminal.json_object(text, "DATA") or {}
    with connect(url) as client:
        method = client.put_entity if verb == "put" else client.patch_entity
        receipt = method(*document, fields, wait_s=wait_s or None, **options)
    _print_receipt(receipt, as_json=as_json)


def rollback(
    url: str,
    type_: str,
    agent_id: str,
    options: Mapping[str, Any],
    *,
    to: int,
    wait_s: float,
    as_json: bool,
) -> None:
    """Make a new version with the data of an earlier one, and print its version."""
    with connect(url) as client:
        receipt = client.rollback(type_, agent_id, to, wait_s=wait_s or None, **options)
    _print_receipt(receipt, as_json=as_json)


def _print_receipt(receipt: StateReceipt, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(receipt)
    elif receipt.applied:
        terminal.print_line(str(receipt.version))
    else:
        terminal.print_note(
            f"accepted and durable, but not applied yet: its event id is {receipt.event_id}, and whether it was applied"
            " can be read in a moment"
        )


def versions(url: str, type_: str, agent_id: str, limit: int, *, as_json: bool) -> None:
    """Print the kept versions of a document, the newest first."""
    with connect(url) as client:
        found = client.versions(type_, agent_id, limit=limit)
        while found.next_cursor is not None and (left := limit - len(found.versions)) > 0:
            # A page also ends at a number of bytes.
            page = client.versions(type_, agent_id, limit=left, cursor=found.next_cursor)
            found = Versions([*found.versions, *page.versions], page.next_cursor, page.fresh)
    if as_json:
        terminal.print_json(found)
        return
    rows = [
        (
            one.version,
            terminal.local_time(one.updated_at),
            "-" if one.tick is None else f"{one.tick:g}",
            "deleted" if one.data is None else _plain(one.data),
        )
        for one in found.versions
    ]
    terminal.print_table({"version": "right", "when": "", "tick": "right", "data": ""}, rows)
    if found.next_cursor is not None:
        terminal.print_note("there are earlier versions: ask for more with -n")


def records(
    url: str, agent_id: str, type_: str, limit: int, options: Mapping[str, Any], *, as_json: bool
) -> None:
    """Print the newest records of a type. `options`: further arguments of `MemoryClient.recent`."""
    with connect(url) as client:
        page = client.recent(agent_id, limit, type=type_, **options)
    if as_json:
        terminal.print_json(page)
        return
    if page.memories:
        rows = [
            (terminal.local_time(one.timestamp), "-" if one.tick is None else f"{one.tick:g}", _content(one))
            for one in page.memories
        ]
        terminal.print_table({"when": "", "tick": "right", "content": ""}, rows)
    terminal.print_note(f"{len(page.memories):,} of {page.total:,} of the type {type_}")


def summary(url: str, agent_id: str, *, as_json: bool) -> None:
    """Print how many memories an agent has, by type."""
    with connect(url) as client:
        found = client.summary(agent_id)
    if as_json:
        terminal.print_json(found)
        return
    counts = sorted(found.by_type.items(), key=lambda one: (-one[1], one[0]))
    if counts:
        terminal.print_table(
            {"memories": "right", "type": ""}, [(f"{count:,}", type_ or "-") for type_, count in counts]
        )
    span = ""
    if found.first is not None and found.last is not None:
        span = f", from {terminal.local_time(found.first)} to {terminal.local_time(found.last)}"
    terminal.print_note(f"{found.total:,} in all{span}")


def _content(record: FoundMemory) -> str:
    """The text, and the fields that the text does not have."""
    fields = _plain(record.metadata) if record.metadata else ""
    return "  ".join(part for part in (record.text, fields) if part)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
