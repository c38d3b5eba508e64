"""Long journals: entries of 100 to 400 words, of which one sentence is the answer to a question."""

from __future__ import annotations

from tests.retrieval.bench.corpus import DAY_S, Corpus, Writer

_ENTRIES = 120
_SHORTEST, _LONGEST = 100, 380
"""Words of an entry."""

_FACTS: tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
    (("Behind the {s} I buried {d}, two feet deep.", "I hid {d} where nobody looks, near the {s}."),
     ("What is hidden by the {s}?", "Which thing did I bury close to the {s}?"),
     ("chicken house", "sundial", "ice cellar", "stone bench", "pear tree", "forge", "boat shed"),
     ("a box of letters", "the crown of the drowned king", "nine gold rings", "my brother's medal", "a jar of seeds")),
    (("The {s} has stopped working because of {d}.", "It took me a day to see that {d} had ruined the {s}."),
     ("Why is the {s} broken?", "What is wrong with the {s}?"),
     ("water wheel", "tower clock", "great oven", "north lift", "printing press", "windmill", "loom"),
     ("rust in the axle", "a swallow's nest", "a missing tooth of the gear", "frost", "too much grease")),
    (("Master {s} told me the recipe at last: {d}.", "Today {s} let me watch, and the trick is {d}."),
     ("What is the secret in the cooking of {s}?", "How does {s} prepare the famous dish?"),
     ("Anselm", "Brunhild", "Cosima", "Dietmar", "Elspeth", "Florian", "Gerlinde"),
     ("a spoon of pine honey", "roasting the roots twice", "sour cream from goats", "ash of vine wood", "three days in brine")),
    (("I paid {d} to get {s} out of prison.", "{s} is free again, it cost me {d}."),
     ("What was the bail for {s}?", "How did I buy the freedom of {s}?"),
     ("the fiddler", "my nephew", "the smuggler", "a poacher", "the printer", "young Rolf", "the herbalist"),
     ("my best horse", "eighty florins", "the deed of the vineyard", "a silver teapot", "two winters of work")),
    (("The letter from {s} says that {d}.", "At noon a rider came with news of {s}: {d}."),
     ("What did {s} write to me?", "Which message arrived from {s}?"),
     ("Castle Dunmore", "the southern fleet", "Aunt Sibylla", "the university", "the bishop", "the border fort", "the mint"),
     ("the king is dead", "wheat will be dear", "a new star was seen", "they want their money by Easter", "the bridge is closed")),
    (("My {s} began this week; {d} is in charge of me.", "I have entered the {s}, under {d}."),
     ("Who supervises my {s}?", "Who is my superior in the {s}?"),
     ("training as a diver", "service in the guard", "work at the archive", "time in the kitchen", "apprenticeship at the glassworks"),
     ("a man with one ear", "Lady Orsolya", "a former pirate", "the youngest of the sisters", "someone called Quill")),
)  # fmt: skip
"""(sentences, questions, subjects, details)"""
_SUBJECTS = tuple(
    subject if subject[0].isupper() or subject.startswith(("the ", "a ", "my ")) else f"the {subject}"
    for _, _, subjects, _ in _FACTS
    for subject in subjects
)

_OPENINGS = (
    "I woke before the cock and could not find my shoes.", "Another grey morning, and the roof drips.", "Slept well for once.",
    "The bells rang for someone, I did not ask for whom.", "No wind today, the smoke goes straight up.",
    "Market day, so the road was full of carts before sunrise.", "I write this by the last candle of the box.",
)  # fmt: skip
_FILLERS = (
    "The {a} {n} {v} {p}.", "I {w} for an hour {p}.", "We spoke about the {a} {n}, but came to no end.", "Somebody left a {a} {n} {p}.",
    "In the afternoon I {w} and thought of the {n}.", "There is a rumour that a {a} {n} {v} {p}.", "My knee hurt, so I {w} {p}.",
    "The {n} was {a}, as always on such days.", "Supper was a {a} soup, then I {w}.", "Nobody had seen the {n} that {v} {p}.",
    "I asked the {n} about the way, and it turned out to be {a}.", "For a while the rain {v} {p}, later it was {a}.",
    "If the {n} comes again, I will stay {p}.", "They say that one must never trust a {a} {n}.",
)  # fmt: skip
_MENTIONS = (
    "Nobody talks of anything but {s} these days.", "I passed {s} and thought nothing of it.", "We will see what becomes of {s}.",
    "Once more I promised to draw {s}.", "My sister asked about {s}, I changed the subject.", "The old song about {s} was sung badly.",
    "I dreamt of {s}, and of {t}, which makes no sense.", "Between {s} and {t} there is little to choose.",
)  # fmt: skip
_MENTIONED = 0.15
"""The share of sentences that name the subject of some question."""
_ADJECTIVES = (
    "tired",
    "golden",
    "narrow",
    "quiet",
    "bitter",
    "hungry",
    "foreign",
    "lame",
    "cheerful",
    "mossy",
    "stubborn",
    "pale",
)
_NOUNS = (
    "pedlar", "wind", "goose", "boy", "cartwright", "fog", "mule", "priest", "candle", "weaver", "dog", "river", "doctor", "crowd",
)  # fmt: skip
_VERBS = ("waited", "sang", "lay", "came by", "stood", "argued", "slept", "fell", "laughed", "worked")
_WORKED = (
    "sorted nails",
    "walked",
    "mended nets",
    "cleaned the stove",
    "read",
    "chopped kindling",
    "sat",
    "wrote letters",
    "peeled roots",
)
_PLACES = (
    "by the bridge", "in the yard", "behind the church", "on the stairs", "under the lime tree", "at the ford", "near the town hall",
    "next to the well", "in the upper room", "along the wall", "outside the gate",
)  # fmt: skip


def corpus(seed: int) -> Corpus:
    """The journals of two chroniclers."""
    writer = Writer("journals", seed)
    for number in range(2):
        agent = f"npc:chronicler-{number}"
        facts = [(fact, subject) for fact in _FACTS for subject in fact[2]]
        for (sentences, questions, _, details), subject in writer.some(facts, len(facts)):
            values = {"s": subject, "d": writer.pick(details)}
            gold = _entry(writer, agent, writer.say(sentences, **values))
            writer.ask(agent, writer.say(questions, **values), gold)
        for _ in range(_ENTRIES - len(facts)):
            _entry(writer, agent, writer.pick(_OPENINGS))
    return writer.corpus


def _entry(writer: Writer, agent: str, sentence: str) -> str:
    writer.wait(0.6 * DAY_S, 2 * DAY_S)
    wanted, text = writer.random.randint(_SHORTEST, _LONGEST), [writer.pick(_OPENINGS)]
    while sum(len(one.split()) for one in text) < wanted:
        if writer.random.random() < _MENTIONED:
            one, other = writer.some(_SUBJECTS, 2)
            text.append(writer.say(_MENTIONS, s=one, t=other))
        text.append(
            writer.say(
                _FILLERS, a=writer.pick(_ADJECTIVES), n=writer.pick(_NOUNS), v=writer.pick(_VERBS),
                w=writer.pick(_WORKED), p=writer.pick(_PLACES),
            )
        )  # fmt: skip
    text.insert(writer.random.randint(1, len(text)), sentence)
    return writer.event(agent, " ".join(text), type="journal")
