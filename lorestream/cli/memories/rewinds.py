"""The verb `rewind`, carried out through the HTTP client."""

from __future__ import annotations

import time

from lorestream.cli import terminal
from lorestream.cli.memories.calls import connect, count
from lorestream.client import ApiError, MemoryClient, RewindReceipt, RewindSize

TIMEOUT_S = 60.0
"""How long a rewind is waited for. It takes some seconds for a million memories of the server."""


def begin(url: str, server: str, to: float, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Rewind a server to that time (Unix seconds); waits until no read shows what it hides, up to `TIMEOUT_S`."""
    with connect(url) as memories:
        size = _size(memories, server, to)
        what = f"{_amount(size)} that {server} sent after {terminal.local_time(to)}"
        if dry_run:
            if as_json:
                found = {"memories": size and size.memories, "agents": size and size.agents}
                terminal.print_json({"dry_run": True, "server": server, "to": to, **found})
            else:
                terminal.print_line(f"would hide {what}; nothing was changed")
            return
        terminal.confirm(f"Hide {what}? It can be undone.", yes=yes)
        receipt = memories.rewind(server, to)
        state = _wait(memories, receipt, "running")
    if as_json:
        terminal.print_json({"rewind_id": receipt.rewind_id, "state": state})
        return
    terminal.print_line(receipt.rewind_id)
    terminal.print_note(f"{'hidden' if state == 'done' else 'accepted, still being hidden'}: {what}")
    terminal.print_note(
        "documents, Q-tables and policies stay as they are; undo it with"
        f" `lorestream rewind --undo {receipt.rewind_id}`"
    )


def undo(url: str, rewind_id: str, *, yes: bool, as_json: bool) -> None:
    """Undo a rewind; waits until reads show again what it hid, up to `TIMEOUT_S`."""
    with connect(url) as memories:
        one = memories.find_rewind(rewind_id)
        what = f"what {one.server} sent after {terminal.local_time(one.to)}"
        terminal.confirm(f"Show again {what}?", yes=yes)
        state = _wait(memories, memories.undo_rewind(rewind_id), "undoing")
    if as_json:
        terminal.print_json({"rewind_id": rewind_id, "state": state})
    else:
        done = "shown again" if state == "undone" else "accepted, still being shown again"
        terminal.print_line(f"{done}: {what}, as far as no other rewind hides it")


def show(url: str, *, as_json: bool) -> None:
    """Print the rewinds so far."""
    with connect(url) as memories:
        found = memories.rewinds(1000)
    if as_json:
        terminal.print_json({"rewinds": found})
        return
    if found:
        terminal.print_table(
            {"rewind": "", "server": "", "to": "", "accepted": "", "state": ""},
            [
                (
                    one.rewind_id,
                    one.server,
                    terminal.local_time(one.to),
                    terminal.local_time(one.accepted_at),
                    one.state,
                )
                for one in found
            ],
        )
    terminal.print_note(count(len(found), "rewind", "rewinds"))


def _wait(memories: MemoryClient, receipt: RewindReceipt, running: str) -> str:
    deadline = time.monotonic() + TIMEOUT_S
    while (state := memories.find_rewind(receipt.rewind_id).state) == running and time.monotonic() < deadline:
        time.sleep(0.05)
    return state


def _size(memories: MemoryClient, server: str, to: float) -> RewindSize | None:
    """What the rewind would hide; None if the query service cannot be asked here, with this key, or takes too long."""
    try:
        return memories.rewind_size(server, to)
    except ApiError as error:
        if error.status in {401, 403, 404, 503}:
            return None
        raise


def _amount(size: RewindSize | None) -> str:
    if size is None:
        return "everything"
    return f"{count(size.memories, 'memory', 'memories')} of {count(size.agents, 'agent', 'agents')}"
