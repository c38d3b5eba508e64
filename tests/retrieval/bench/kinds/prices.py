"""Prices that change: the newest one of a good is the answer, or the one that a certain seller asked."""

from __future__ import annotations

from tests.retrieval.bench.corpus import DAY_S, Corpus, Writer

_GOODS = (
    "salted herring", "lamp oil", "roof tiles", "goose feathers", "rye flour", "blue dye", "hemp rope", "tin cups",
    "cow hides", "peat", "cinnamon", "clay pipes", "horse shoes", "linen", "quills", "smoked cheese",
)  # fmt: skip
_SELLERS = (
    "Agnes",
    "the one-eyed trader",
    "Jorik",
    "the mill",
    "Mother Hale",
    "the caravan",
    "Sten",
    "the harbour shop",
)
_OFFERS = (
    "{s} asks {p} silver for {g} now.", "{g}: {p} silver at {s}, haggling did not help.", "Bought {g} from {s}, {p} silver in all.",
    "{s} has raised {g} to {p} silver.", "{s} gives {g} away for {p} silver, who knows how long.", "Paid {p} silver to {s}. Just for {g}!",
)  # fmt: skip
_NEWEST = (
    "How expensive is {g} today?",
    "What would I have to spend on {g} at the moment?",
    "Current price of {g}?",
)
_OF_SELLER = ("How much did {s} want for {g}?", "What does {g} cost if I buy from {s}?")
_TALK = (
    "{s} was in a bad mood today.", "The shelves of {s} are nearly empty.", "People queue for {g} again.", "There was no {g} anywhere.",
    "{s} asked whether I need {g}.", "I dream of a cart full of {g}.", "{g} got wet in the rain and is spoiled.",
    "{s} swears that the best {g} comes from the south.", "Thieves took {g} from {s}.",
)  # fmt: skip


def corpus(seed: int) -> Corpus:
    """Two traders who hear of a price some two hundred times."""
    writer = Writer("prices", seed)
    for number in range(2):
        agent = f"npc:trader-{number}"
        goods, sellers = writer.some(_GOODS, 10), writer.some(_SELLERS, 5)
        newest: dict[str, str] = {}
        by_seller: dict[tuple[str, str], list[str]] = {}
        for _ in range(9):
            for good in writer.some(goods, len(goods)):
                writer.wait(0.02 * DAY_S, 0.2 * DAY_S)
                seller, price = writer.pick(sellers), writer.random.randint(2, 90)
                newest[good] = writer.event(
                    agent, writer.say(_OFFERS, s=seller, p=price, g=good), type="price"
                )
                by_seller.setdefault((good, seller), []).append(newest[good])
                writer.event(
                    agent, writer.say(_TALK, s=writer.pick(sellers), g=writer.pick(goods)), type="note"
                )
        for good, gold in newest.items():
            writer.ask(agent, writer.say(_NEWEST, g=good), gold, kind="prices: newest")
        for (good, seller), gold in writer.some(by_seller.items(), 12):
            writer.ask(agent, writer.say(_OF_SELLER, g=good, s=seller), *gold, kind="prices: of a seller")
    return writer.corpus
