"""Every view of the console, as the demo village fills it: where it is, and what must be seen there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class View:
    """`place`: the hash of its address. `shows`: a selector that is visible once the view has its data."""

    name: str
    place: str
    shows: str


VIEWS = [
    View("agents", "#/agents", "a:has-text('npc:smith-1')"),
    View("timeline", "#/agents/npc%3Asmith-1", ".readout"),
    View("conversations", "#/agents/npc%3Asmith-1/conversations", ".thread li >> nth=2"),
    View("relations", "#/agents/npc%3Asmith-1/relations", "a:has-text('npc:miner-1')"),
    View("ask", "#/ask?agent=npc%3Asmith-1&q=where%20is%20the%20anvil&rec=0.3", ".found li"),
    View("map", "#/map?x=4&z=-8&r=20", ".plain li"),
    View("state", "#/agents/npc%3Asmith-1/state", "ins:has-text('1')"),
    View("pipeline", "#/pipeline", ".flow [data-state=ok] >> nth=5"),
    View("dead letters", "#/dead?id=0-0", "pre:has-text('rubbish')"),
    View("index", "#/index", "td:has-text('hash-v1')"),
    View("likeness", "#/likeness?by=agent&type=chat", ".scatter"),
    View("keys", "#/admin/keys", "text=There are no API keys."),
    View("limits", "#/admin/limits", "td:has-text('16 KiB')"),
    View("erasures", "#/admin/erasures", "td:has-text('npc:nobody')"),
    View("audit", "#/admin/audit", "td:has-text('erasure done')"),
    View("doctor", "#/admin/doctor", "td:has-text('data directory')"),
    View("settings", "#/admin/settings?only=set", "td:has-text('LORESTREAM_EMBEDDER__KIND')"),
]
