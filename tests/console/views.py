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
    View("agents", "#/agents", "text=npc:smith-1"),
]
