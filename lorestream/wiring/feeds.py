"""The feed of a process that has the store open."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from lorestream.push.feed import Feed
from lorestream.push.findable import Findable

if TYPE_CHECKING:
    from lorestream.wiring.parts import StoreParts


def feed_over(parts: StoreParts) -> AbstractAsyncContextManager[Feed]:
    """The feed over the active collection of these parts."""
    findable = Findable(lambda: parts.store, parts.ledger, parts.clock)
    return Feed.open(parts.log, parts.collections, findable)
