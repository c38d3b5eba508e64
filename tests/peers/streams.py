"""What the contenders take in: texts that are all different, deeds drawn at random, and what a real game has sent."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path

from lorestream.narrate import narrate
from tests.load.system import sentences
from tests.peers.contenders import Event

AGENTS = 20
"""Of the first two streams."""
RECORDING = Path(__file__).with_name("game.ndjson.gz")
"""Events as the Luanti mod sent them, written by `python -m tests.luanti.record`; see there."""

_NODES = (
    "default:stone",
    "default:dirt",
    "default:tree",
    "default:cobble",
    "default:stone_with_coal",
    "default:sand",
)
_TOOLS = ("default:torch", "default:pick_stone", "default:ladder_wood", "default:chest", "default:stick")
_MOBS = ("mobs:sheep", "mobs:wolf", "mobs:spider", "mobs:boar")


def distinct(count: int, seed: int) -> list[Event]:
    """Events whose texts are all different."""
    return _events(sentences(count, seed), seed)


def deeds(count: int, seed: int) -> list[Event]:
    """Events like those of the Luanti mod: what was dug, placed, crafted and hit, most of the sentences seen before."""
    rng = random.Random(seed)
    texts: list[str] = []
    for _ in range(count):
        kind = rng.choices(("dig", "place", "craft", "punch"), (60, 25, 10, 5))[0]
        key, things = {"dig": ("node", _NODES), "place": ("node", _NODES), "craft": ("item", _TOOLS)}.get(
            kind, ("target", _MOBS)
        )
        count_of = 1 + min(int(rng.expovariate(0.25)), 98)
        texts.append(narrate(kind, {key: rng.choice(things), "count": count_of}, by_player=False))
    return _events(texts, seed)


def played(count: int, part: int) -> list[Event]:
    """`count` events of the recording, from event `part` x `count` on; behind its end it begins anew."""
    lines = gzip.decompress(RECORDING.read_bytes()).splitlines()
    chosen = [
        (number, json.loads(lines[number % len(lines)])) for number in range(part * count, (part + 1) * count)
    ]
    return [Event(f"played:{number}", sent.pop("agent_id"), text_of(sent), sent) for number, sent in chosen]


def text_of(sent: dict[str, object]) -> str:
    """The text of an event as it was sent: its own, or the one that Lorestream narrates."""
    data = sent.get("data")
    return str(sent.get("text") or "") or narrate(
        str(sent["type"]), data if isinstance(data, dict) else {}, by_player="player" in sent
    )


def _events(texts: Sequence[str], seed: int) -> list[Event]:
    return [Event(f"{seed}:{texts[0][:8]}:{n}", f"npc:{n % AGENTS}", text) for n, text in enumerate(texts)]
