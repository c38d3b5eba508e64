"""The newest erasure of every subject, in memory: from here a ledger answers `covers` and `added_since`."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from lorestream import identity
from lorestream.memories import SubjectKind, without

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorestream.memories import AgentKey, Erasure, Memory

Subject: TypeAlias = "tuple[str, str, str]"
"""(tenant, kind, subject in its stored form)."""


class ErasedSubjects:
    """Erased subjects, with the time up to which their memories are erased (Unix seconds, against `accepted_at`)."""

    def __init__(self, newest: dict[Subject, float] | None = None) -> None:
        """`newest`: erasures from before this process, which `added_since` leaves out."""
        self._newest = newest or {}
        self._added: dict[str, Erasure] = {}

    def add(self, erasure: Erasure) -> None:
        """Add an erasure. One that is older than another of the same subject covers nothing more."""
        self._added.setdefault(erasure.id, erasure)
        for subject in erasure.subjects:
            entry = (erasure.tenant, erasure.kind.value, subject)
            self._newest[entry] = max(erasure.accepted_at, self._newest.get(entry, erasure.accepted_at))

    def covers(self, memory: Memory) -> bool:
        """Whether any erasure covers this memory."""
        # Fast path: this is called for every memory read or written, and most deployments have no erasures.
        return bool(self._newest) and (
            self._covers_subject(memory, SubjectKind.AGENT, memory.agent_id)
            or self._covers_subject(memory, SubjectKind.PLAYER, memory.player)
            or self._covers_subject(memory, SubjectKind.PLAYER, memory.agent_player)
        )

    def strip(self, memory: Memory) -> Memory:
        """The memory without erased players in `about`, and without erased corrections."""
        if not self._newest or not (memory.about or memory.superseded_by):
            return memory
        about = tuple(
            one
            for one in memory.about
            if not self._covers_subject(memory, SubjectKind.PLAYER, identity.pseudonym_in(one))
        )
        kept = [one for one in memory.superseded_by if not self.covers(memory.by(one))]
        return without(memory, about, kept)

    def covers_state(self, agent: AgentKey, player: str | None, since: float) -> bool:
        """Whether any erasure covers state of this agent, named after `player`, whose content begins at `since`."""
        return bool(self._newest) and (
            self._is_erased((agent.tenant, SubjectKind.AGENT, agent.agent_id), since)
            or (player is not None and self._is_erased((agent.tenant, SubjectKind.PLAYER, player), since))
        )

    def added_since(self, since: int) -> Sequence[Erasure]:
        """The erasures that were added, each once, in that order, without the first `since`."""
        return list(islice(self._added.values(), since, None)) if len(self._added) > since else ()

    def _covers_subject(self, memory: Memory, kind: SubjectKind, subject: str | None) -> bool:
        if subject is None:
            return False
        return self._is_erased((memory.tenant, kind, subject), memory.accepted_at)

    def _is_erased(self, subject: Subject, accepted_at: float) -> bool:
        newest = self._newest.get(subject)
        return newest is not None and accepted_at <= newest
