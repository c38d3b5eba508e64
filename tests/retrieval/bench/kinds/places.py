"""Places: names, landmarks and coordinates in the text, and searches around a position."""

from __future__ import annotations

from tests.retrieval.bench.corpus import DAY_S, Corpus, Writer

_FIRST = (
    "Raven",
    "Thorn",
    "Misty",
    "Copper",
    "Wolf",
    "Silent",
    "Elder",
    "Frost",
    "Honey",
    "Broken",
    "Salt",
    "Green",
)
_SECOND = (
    "hollow",
    "peak",
    "ford",
    "gate",
    "marsh",
    "fall",
    "burrow",
    "reach",
    "field",
    "watch",
    "haven",
    "cross",
)
_FEATURES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("a spring with clean water", "is there something to drink", ("You can fill bottles at {n}, {f} comes out of the rock.",
                                                                  "At {n} I found {f}.")),
    ("a vein of iron", "can metal be mined", ("{n}: {f}, hardly touched, behind the boulders.", "There is {f} below {n}.")),
    ("a nest of bandits", "is travelling dangerous", ("Keep away from {n}. {f}, at least ten of them.",
                                                      "I escaped from {n}, it has become {f}.")),
    ("a hut with two beds", "could one sleep under a roof", ("{n} has {f}, the door is never locked.", "Old {f} near {n}, dry inside.")),
    ("a rope bridge", "does one get across the gorge", ("The only crossing is at {n}: {f}, one at a time.",
                                                        "Carpenters have hung {f} over {n}.")),
    ("a shrine of the moon", "do people pray", ("Candles burn at {n}, where pilgrims look after {f}.", "{f} stands on the rocks of {n}.")),
    ("a field of strawberries", "grows fruit in summer", ("We picked until evening: {f} on the sunny side of {n}.",
                                                          "{n} smells sweet, it is {f} now.")),
    ("a wrecked ship", "did a vessel sink", ("At low tide you see {f} off {n}.", "The storm left {f} on the beach of {n}.")),
)  # fmt: skip
_VISITS = (
    "Passed {n} on the way home.", "Rain again at {n}.", "Met a pedlar near {n}.", "Rested an hour at {n}, nothing to report.",
    "Someone has put up a new sign for {n}.", "From {n} one sees the sea on clear days.", "The children asked me what {n} looks like.",
    "Saw smoke in the direction of {n}.", "Lost the path between {n} and {m}.",
)  # fmt: skip
_WHERE = (
    "Wrote down the position of {n}: x {x}, z {z}.",
    "{n} lies at {x}, {z} on my map.",
    "My compass says {x} / {z} for {n}.",
)
_ASK_WHERE = ("What are the coordinates of {n}?", "How do I find {n} on the map?", "Position of {n}?")


def corpus(seed: int) -> Corpus:
    """Two scouts who describe a dozen places each, and mention them on many other days."""
    writer = Writer("places", seed)
    for number in range(2):
        agent = f"npc:scout-{number}"
        names = [
            first + second
            for first, second in zip(writer.some(_FIRST, 12), writer.some(_SECOND, 12), strict=True)
        ]
        features = (writer.some(_FEATURES, 8) + writer.some(_FEATURES, 4))[: len(names)]
        for name, (feature, need, texts) in zip(names, features, strict=True):
            _mentions(writer, agent, names, 6)
            pos = {
                "x": round(writer.random.uniform(-2000, 2000)),
                "y": 10,
                "z": round(writer.random.uniform(-2000, 2000)),
            }
            gold = writer.event(agent, writer.say(texts, n=name, f=feature), type="explore", pos=pos)
            here = {"near": {**pos, "radius": 60}}
            writer.ask(agent, f"Where {need} around here?", gold, kind="places: near a position", **here)
            if features.count((feature, need, texts)) == 1:
                writer.ask(agent, f"In which place {need}?", gold, kind="places: by what they have")
            _mentions(writer, agent, names, 6)
            values = {"n": name, "x": pos["x"], "z": pos["z"]}
            gold = writer.event(agent, writer.say(_WHERE, **values), type="note")
            writer.ask(agent, writer.say(_ASK_WHERE, **values), gold, kind="places: coordinates")
    return writer.corpus


def _mentions(writer: Writer, agent: str, names: list[str], count: int) -> None:
    for _ in range(count):
        writer.wait(0.05 * DAY_S, 0.3 * DAY_S)
        name, other = writer.some(names, 2)
        writer.event(agent, writer.say(_VISITS, n=name, m=other), type="note")
