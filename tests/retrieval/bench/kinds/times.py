"""Time words: the same things happen every few days, and a question names the day: yesterday, three days ago."""

from __future__ import annotations

from tests.retrieval.bench.corpus import DAY_S, HOUR_S, START, Corpus, Writer

_DAYS = 75
_MATTERS: tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
    (("Supper: {d}.", "We had {d} in the evening.", "The cook served {d}."),
     ("What did I eat {when}?", "Which meal was on the table {when}?"),
     ("turnip stew", "fried eel", "cold porridge", "roast goose", "pea soup", "cheese and pears", "dumplings")),
    (("Patrol along the wall: {d}.", "Did my round outside, {d}.", "Guard duty, and {d}."),
     ("What did I see on the patrol {when}?", "Was there anything unusual during my guard duty {when}?"),
     ("a torn flag", "fresh wolf tracks", "two drunk sailors", "a broken lock", "nothing but fog", "an owl in the gate")),
    (("{d} knocked at our door.", "A visit from {d}.", "{d} stayed for an hour and talked."),
     ("Who came to see me {when}?", "Which guest did I have {when}?"),
     ("the notary", "my old teacher", "a begging friar", "the neighbour's twins", "a map maker", "the fishmonger")),
    (("Work in the shop: {d}.", "Spent the day with {d}.", "At the bench again: {d}."),
     ("What was I working on {when}?", "Which job did I do {when}?"),
     ("sharpening shears", "a hinge for the abbey", "nails and nothing else", "a birdcage", "the mayor's spurs", "a cracked bell")),
    (("My sister wrote: {d}.", "A letter came, {d}.", "News from home: {d}."),
     ("What did the post bring {when}?", "What news did I get {when}?"),
     ("the cow has calved", "uncle is in debt", "they found the ring", "the roof is finished", "a cousin will marry")),
)  # fmt: skip
"""(sentences, questions, details)"""
_WHEN = {
    0: ("today", "this day"),
    1: ("yesterday",),
    2: ("the day before yesterday", "two days ago"),
    3: ("three days ago",),
    5: ("five days ago",),
    7: ("a week ago", "seven days ago"),
    14: ("two weeks ago", "a fortnight ago"),
    30: ("30 days ago",),
}
"""Days back -> how one says it."""


def corpus(seed: int) -> Corpus:
    """The diaries of two smiths, who are asked in the evening of the last day."""
    writer = Writer("times", seed)
    midnight = START - START % DAY_S
    for number in range(2):
        agent = f"npc:smith-{number}"
        said: dict[tuple[int, int], str] = {}
        for day in range(_DAYS):
            writer.now = midnight + day * DAY_S + 7 * HOUR_S
            for matter in sorted(writer.some(range(len(_MATTERS)), 4)):
                writer.wait(0.2 * HOUR_S, 2.5 * HOUR_S)
                sentences, _, details = _MATTERS[matter]
                text = writer.say(sentences, d=writer.pick(details))
                said[_DAYS - 1 - day, matter] = writer.event(agent, text, type="diary")
        writer.now = midnight + (_DAYS - 1) * DAY_S + 20 * HOUR_S
        writer.event(agent, "Put out the fire and went to bed.", type="diary")
        for back, words in _WHEN.items():
            for matter, (_, questions, _) in enumerate(_MATTERS):
                if gold := said.get((back, matter)):
                    writer.ask(
                        agent, writer.pick(questions).format(when=writer.pick(words)), gold, kind="time words"
                    )
    return writer.corpus
