"""The agents whose points a call is about, where its conditions name them: they decide which shards are asked."""

from __future__ import annotations

from collections.abc import Iterable

from lorestream.adapters.qdrant.conditions import Clause, Group, Ids, Match


def agents_of(must: Iterable[Clause]) -> frozenset[str] | None:
    """The only agents whose points can meet all the clauses, as in the payload key `agent`; None if they can be any."""
    named = [found for one in must if (found := _agents_of_clause(one)) is not None]
    return min(named, key=len) if named else None


def _agents_of_clause(clause: Clause) -> frozenset[str] | None:
    match clause:
        case Match(key=("agent" | "owner"), values=values):
            return frozenset(map(str, values))
        case Group(must=must, should=should):
            found = agents_of(must)
            parts = [_agents_of_clause(one) for one in should]
            named = [one for one in parts if one is not None]
            if found is None and named and len(named) == len(parts):
                return frozenset().union(*named)
            return found
        case Ids():
            return clause.agents
        case _:
            return None
