"""Rewinds: a game server's world was restored from a backup, so what its agents came to know since is hidden."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lorestream.limits import check_has_come

if TYPE_CHECKING:
    from lorestream.memories import Memory


@dataclass(frozen=True, slots=True)
class Rewind:
    """Hides the memories of a server that were accepted after `to` and up to `accepted_at`, until it is undone.

    Times are Unix seconds. `accepted_at`: when the rewind was accepted. `undone_at`: when its undoing was; None: not.
    """

    id: str
    tenant: str
    server: str
    to: float
    accepted_at: float
    undone_at: float | None = None

    @property
    def changed_at(self) -> float:
        """When its last change was accepted."""
        return self.accepted_at if self.undone_at is None else self.undone_at

    def covers(self, memory: Memory) -> bool:
        """True if this rewind hides the memory."""
        return (
            self.undone_at is None
            and (memory.tenant, memory.server) == (self.tenant, self.server)
            and self.to < memory.accepted_at <= self.accepted_at
        )

    def hid(self, memory: Memory, at: float) -> bool:
        """True if it hid the memory at that time (Unix seconds), after its acceptance and before its undoing."""
        return (
            replace(self, undone_at=None).covers(memory)
            and self.accepted_at < at
            and (self.undone_at is None or at < self.undone_at)
        )


def check_time(to: float, now: float) -> None:
    """Raise InvalidRequest if the time of a rewind has not come yet. Both are Unix seconds."""
    what = ". It is the time of the backup that the world was restored from, in Unix seconds"
    check_has_come(to, now, "to", what)
