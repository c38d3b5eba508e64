"""How long a method waits until a read can see what it wrote, or until it is known what became of a write."""

from __future__ import annotations

from lorestream.client import MemoryClient, NotFound, StateReceipt, VersionConflict
from lorestream.errors import Unavailable

WAIT_S = 5.0


def decided(client: MemoryClient, type_: str, id_: str, receipt: StateReceipt) -> None:
    """Wait until a document's write with `if_version` is applied; `receipt` says whether it is already.

    Raises VersionConflict if it was refused, and Unavailable if that is not known in time: it may be refused later.
    """
    if receipt.applied:
        return
    try:
        outcome = client.entity_write(type_, id_, receipt.event_id, after=receipt.token, wait_s=WAIT_S)
    except NotFound:
        message = f"the write of {type_} {id_} is stored, but not applied yet: it may still be refused"
        raise Unavailable(message) from None
    if not outcome.applied:
        code = outcome.code or "version_conflict"
        details = {"current": outcome.current}
        raise VersionConflict("another write was faster", status=409, code=code, details=details)
