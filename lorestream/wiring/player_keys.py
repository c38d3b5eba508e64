"""The keys for player names: from the settings or the data directory, compared with those that the log knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from lorestream import durable
from lorestream.errors import Misconfigured
from lorestream.identity import Pseudonyms
from lorestream.wiring import data_directory

if TYPE_CHECKING:
    from lorestream.ports import ErasureLedger
    from lorestream.settings import Settings

_log = structlog.get_logger("lorestream")


def open_pseudonyms(settings: Settings, directory: Path | None = None) -> Pseudonyms:
    """The keys for player names: from the settings, otherwise from `directory` (created there if missing).

    Raises Misconfigured if neither is possible.
    """
    if settings.player_key is not None:
        return Pseudonyms.parse(settings.player_key.get_secret_value())
    if directory is None or settings.distributed:
        raise Misconfigured(
            "LORESTREAM_PLAYER_KEY: all gateways and query services need the same key for player names; set it to"
            " k1:SECRET, such as k1:$(openssl rand -hex 32), or LORESTREAM_PLAYER_KEY_FILE to a file that holds it"
        )
    try:
        key = data_directory.own_player_key(directory)
    except OSError as error:
        raise Misconfigured(
            f"the key for player names in {directory} cannot be read or written ({error.strerror}):"
            f" {durable.remedy(error)}"
        ) from error
    return Pseudonyms.parse(key)


async def require_known(keys: Pseudonyms, ledger: ErasureLedger, *, add: bool) -> None:
    """Compare the keys for player names with those that the log was written with. With `add`, new ones are added.

    Raises Misconfigured when a key id stands for another key: no name would match what is stored. Warns of a missing
    one.
    """
    given = keys.fingerprints()
    known = await ledger.player_keys({})
    if add and all(known.get(kid, own) == own for kid, own in given.items()):
        known = await ledger.player_keys(given)
    if wrong := [kid for kid, own in given.items() if known.get(kid, own) != own]:
        raise Misconfigured(
            f"the key {wrong[0]} for player names is not the key {wrong[0]} that the log was written with: set"
            " LORESTREAM_PLAYER_KEY (or player.key in the data directory) back to that one. To write with another key"
            " from now on, put it before the old one under an id of its own, as k2:NEW,k1:OLD"
        )
    if missing := sorted(known.keys() - given.keys()):
        _log.warning(
            "the log holds names of players under keys that are not set: these memories are not found or erased by the"
            " player's name. Add the keys to LORESTREAM_PLAYER_KEY, behind the present ones",
            missing=missing,
        )
