"""The calls of rewinds: a game server's world was restored from a backup. Each function builds one request."""

from __future__ import annotations

import uuid

from lorestream.client.call import Call, decoder, write_call
from lorestream.client.encoding import encoded, quoted
from lorestream.client.models import Rewind, RewindReceipt, Rewinds, RewindSize


def rewind(server: str, to: float) -> Call[RewindReceipt]:
    """Hide what the agents of this server came to know after `to`, the time of the backup, and until now.

    `to` is in Unix seconds. Documents, Q-tables and policies stay as they are. A read with `after=token` shows none of it.
    """
    # The id makes a retry the same rewind: otherwise its undoing would leave the other one.
    body = {"server": server, "to": to, "id": uuid.uuid4().hex}
    return write_call(RewindReceipt, "/v1/rewinds", body)


def undo_rewind(rewind_id: str) -> Call[RewindReceipt]:
    """Show again what a rewind hides, apart from what another one hides, or has expired or been deleted. Raises NotFound."""
    return Call(decoder(RewindReceipt), "DELETE", _path(rewind_id), to_writer=True)


def find_rewind(rewind_id: str) -> Call[Rewind]:
    """One rewind and its state. Raises NotFound."""
    return Call(decoder(Rewind), "GET", _path(rewind_id), to_writer=True)


def rewinds(limit: int = 100) -> Call[list[Rewind]]:
    """The newest rewinds, at most 1,000 of them, the newest first."""
    decode = decoder(Rewinds)
    params = {"limit": str(limit)}
    return Call(lambda reply: decode(reply).rewinds, "GET", "/v1/rewinds", params=params, to_writer=True)


def rewind_size(server: str, to: float) -> Call[RewindSize]:
    """How many memories of how many agents a rewind would hide now. Changes nothing; reads all memories of the server."""
    body = encoded({"server": server, "to": to})
    return Call(decoder(RewindSize), "POST", "/v1/rewinds/preview", body)


def _path(rewind_id: str) -> str:
    return "/v1/rewinds/" + quoted(rewind_id, "rewind_id")
