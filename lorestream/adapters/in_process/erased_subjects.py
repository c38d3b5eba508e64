"""The newest erasure of every subject, in memory: what a ledger answers `covers` from."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from lorestream.memories import SubjectKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorestream.memories import Erasure, Memory

Subject: TypeAlias = "tuple[str, str, str]"
"""(tenant, kind, subject in its stored form)."""


class ErasedSubjects:
    """Subjects, and up to when their memories are erased (Unix seconds of `accepted_at`)."""

    def __init__(self, newest: dict[Subject, float] | None = None) -> None:
        self._newest = newest or {}
        self._learned: dict[str, Erasure] = {}

    def add(self, erasure: Erasure) -> None:
        """An older one of the same subject takes nothing more."""
        self._learned.setdefault(erasure.id, erasure)
        for subject in erasure.subjects:
            entry = (erasure.tenant, erasure.kind.value, subject)
            self._newest[entry] = max(erasure.accepted_at, self._newest.get(entry, erasure.accepted_at))

    def covers(self, memory: Memory) -> bool:
        """Whether any erasure takes this memory."""
        # Most deployments never erase anything, and every memory that is read or written comes by here.
        return bool(self._newest) and (
            self._takes(memory, SubjectKind.AGENT, memory.agent_id)
            or self._takes(memory, SubjectKind.PLAYER, memory.player)
            or self._takes(memory, SubjectKind.PLAYER, memory.agent_player)
        )

    def added_since(self, since: int) -> Sequence[Erasure]:
        """Those that were added, each once, in that order, without the first `since`."""
        return list(islice(self._learned.values(), since, None)) if len(self._learned) > since else ()

    def _takes(self, memory: Memory, kind: SubjectKind, subject: str | None) -> bool:
        if subject is None:
            return False
        newest = self._newest.get((memory.tenant, kind, subject))
        return newest is not None and memory.accepted_at <= newest
