"""Conversations of two people over weeks: answers that lack the question's words, facts in passing, repeated themes.

Three dialogues, because programs write them in three ways: with the speaker's name in the text and the conversation in
the metadata; with the name and only times; with the conversation, and the speaker only in the metadata.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.retrieval.bench.corpus import DAY_S, Corpus, Writer

_SESSIONS = 12
_WORDY = 0.4
"""How often a sentence stands before, and one behind, what a turn is about."""
_NAMES = (
    "Bran", "Isolde", "Tamsin", "Will", "Oswin", "Greta", "Don", "Marit", "Edric", "Yrsa", "Pell", "Rose", "Kaspar",
    "Linnet", "Hob", "Sunniva",
)  # fmt: skip


@dataclass(frozen=True)
class _Topic:
    """An exchange: one asks about a subject, the other answers with a detail and without the subject's words."""

    openings: tuple[str, ...]
    answers: tuple[str, ...]
    questions: tuple[str, ...]
    subjects: tuple[str, ...]
    details: tuple[str, ...]


_TOPICS = (
    _Topic(
        ("How was the trip to {s}, {b}?", "You are back from {s}! Was it worth the way?", "So, {b}, tell me about {s}."),
        ("Long, but we watched {d} from the hill, I will never forget it.", "Honestly? The best part was {d}.",
         "It rained all week. Still, seeing {d} made up for it.", "{s} was lovely, we even came across {d} there.", "I would go to {s} again at once, if only for {d}."),
        ("What did {b} see on the journey to {s}?", "What impressed {b} while visiting {s}?"),
        ("Elmwater", "the salt coast", "Stonebridge", "the northern lakes", "Harrowgate", "the Amber Isles", "Fennmoor"),
        ("two foxes playing", "a ship burning", "the lanterns on the river", "wild horses", "a wedding of giants",
         "a fallen star", "hundreds of cranes", "the old dragon bones"),
    ),
    _Topic(
        ("Did you ever finish the {s}?", "What became of the {s} that you were making, {b}?",
         "{b}, last time you were still busy with the {s}."),
        ("Yes! I gave it to {d}, who cried a little.", "Done at last, and it went straight to {d}.",
         "Oh, {d} has it now and seems happy.", "The {s} is finished and belongs to {d}.", "I kept working on the {s} at night, because {d} was waiting for it."),
        ("Who received the {s} from {b}?", "To whom did {b} give the {s}?"),
        ("cradle", "blue quilt", "carved flute", "oak table", "silver ring", "painted shield", "birdhouse"),
        ("my sister", "the widow at the mill", "old Harald", "the new priest", "my godchild", "the ferryman",
         "our neighbour", "the schoolmaster"),
    ),
    _Topic(
        ("Why were you not at the {s}?", "We missed you at the {s}, {b}!", "{b}, you did not come to the {s}. All well?"),
        ("I had {d}, so I stayed in bed.", "Sorry about that. It was because of {d}.",
         "Do not ask. {d} kept me at home.", "I wanted to come to the {s}, but there was {d}.", "With {d} I could not even think of a {s}."),
        ("What kept {b} from coming to the {s}?", "Why did {b} miss the {s}?"),
        ("harvest feast", "archery contest", "town meeting", "spring market", "wedding dance", "boat race", "choir"),
        ("a terrible toothache", "a leaking roof", "a sick cow", "a sprained ankle", "a fever", "a quarrel at home",
         "unexpected guests", "a broken axle"),
    ),
    _Topic(
        ("Is your {s} any better these days?", "How is your {s} doing?", "I keep thinking about your {s}, {b}."),
        ("Much better since we switched to {d}.", "The healer recommended {d}, and it works wonders.",
         "Slowly. We are trying {d} now.", "The {s} is fine again, thanks to {d}.", "Nothing helped the {s} until someone brought {d}."),
        ("What helped the {s} of {b}?", "Which remedy is {b} using for the {s}?"),
        ("mother", "old dog", "back pain", "little boy", "knee", "mare", "cough"),
        ("willow bark tea", "warm milk with garlic", "cold baths", "goose fat", "long walks", "honey and thyme",
         "mud from the spring", "a copper bracelet"),
    ),
    _Topic(
        ("What are you going to do with the {s}?", "{b}, have you made up your mind about the {s}?",
         "And the {s}? Any plans?"),
        ("I want to turn it into {d}.", "If all goes well, it becomes {d} by summer.", "My heart is set on {d}.", "The {s} should become {d}, with windows to the south.", "I measured the {s} and there is room for {d}."),
        ("What does {b} plan to make of the {s}?", "What will the {s} of {b} become?"),
        ("empty barn", "meadow by the creek", "burnt chapel", "attic", "old mill", "cellar", "orchard"),
        ("a bakery", "a school for the orphans", "a skittle alley", "a workshop for glass", "a home for stray cats",
         "a little theatre", "a bathhouse", "a brewery"),
    ),
    _Topic(
        ("How did the meeting with the {s} go?", "{b}! You saw the {s} yesterday, right? What came of it?",
         "Did the {s} listen to you?"),
        ("Badly. I was told to pay {d}.", "We agreed on {d}, so I can sleep again.", "In the end it was {d}, no more, no less.", "The {s} wants {d} from me before the month is over.", "I talked the {s} down to {d}."),
        ("What was the outcome when {b} met the {s}?", "What did {b} have to pay to the {s}?"),
        ("tax collector", "magistrate", "guild master", "landlord", "abbot", "baron", "harbour warden"),
        ("thirty silver", "two sheep a year", "half of the crop", "nothing until autumn", "a barrel of mead",
         "forty days of labour", "the price of a horse", "one gold crown"),
    ),
    _Topic(
        ("What do you think of the new {s}?", "Have you met the {s} yet, {b}?", "People talk a lot about the {s}. And you?"),
        ("Kind, but {d}.", "I like the smile. Only {d}, that bothers me.", "We shared a table. It turns out that {d}.", "The {s} is a strange one: {d}.", "I helped the {s} move in, and {d}."),
        ("What did {b} notice about the new {s}?", "What does {b} say about the {s}?"),
        ("innkeeper", "teacher", "blacksmith", "captain", "midwife", "gardener", "judge"),
        ("there is a tattoo of a raven under that sleeve", "nobody may touch the left hand", "every word is sung, not said",
         "the accent is from beyond the sea", "there are six dogs in the house", "no lie passes unnoticed",
         "the snoring shakes the wall", "sweets are in every pocket"),
    ),
    _Topic(
        ("What are you reading in the {s}?", "{b}, what keeps you busy during the {s}?", "How do you spend the {s}?"),
        ("At the moment it is {d}, I can hardly stop.", "Mostly {d}. It calms me.", "You will laugh: {d}.", "Every {s} needs something, and mine has {d}.", "For the {s} I have {d} at last."),
        ("How does {b} pass the time during the {s}?", "What occupies {b} in the {s}?"),
        ("long evenings", "night watch", "lunch break", "rainy season", "winter months", "ferry ride", "early mornings"),
        ("a book on bees", "whittling chess pieces", "learning the stars by heart", "letters to a cousin",
         "knitting socks", "the ballads of the north", "a puzzle of a thousand parts", "training a crow"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class _Fact:
    """Something that is said in one turn. Of a repeated one, several turns answer the question."""

    statements: tuple[str, ...]
    questions: tuple[str, ...]
    details: tuple[str, ...]


_FACTS = (
    _Fact(("My birthday is on {d}, do not forget it.", "I turn another year older on {d}."),
          ("On which day was {b} born?", "When does {b} celebrate the birthday?"),
          ("the first day of frost", "midsummer eve", "the night of the lanterns", "the ninth of harvest")),
    _Fact(("I grew up in {d} before we moved here.", "As a child I lived in {d}, can you imagine?"),
          ("Where did {b} spend the childhood?", "What place does {b} come from?"),
          ("a lighthouse", "a mining camp", "a monastery kitchen", "a houseboat")),
    _Fact(("I am scared of {d}, have been since I was small.", "Nothing frightens me like {d}."),
          ("What is {b} afraid of?", "Which fear does {b} have?"),
          ("moths", "deep water", "thunder", "mirrors at night")),
    _Fact(("I cannot eat {d}, my throat swells.", "{d} make me ill, always did."),
          ("Which food is {b} allergic to?", "What must {b} not be served?"),
          ("walnuts", "strawberries", "mussels", "eggs")),
    _Fact(("I got a new pet, {d}!", "Look who lives with us now: {d}."),
          ("What animal did {b} adopt?", "Which pet has {b}?"),
          ("a three-legged goat called Pip", "a blind owl", "a hedgehog named Burr", "a very old parrot")),
    _Fact(("I lost {d} somewhere between the well and the smithy.", "I have been searching for {d} since Monday."),
          ("What has {b} lost?", "Which thing is missing from the belongings of {b}?"),
          ("my grandfather's watch", "the key of the granary", "a red glove", "my lucky coin")),
    _Fact(("I applied to become {d}.", "If they take me, I will be {d} next year."),
          ("Which job does {b} hope for?", "What profession did {b} apply for?"),
          ("a royal messenger", "the keeper of the archive", "a ship's cook", "an apprentice of the clockmaker")),
)  # fmt: skip

_REPEATED = (
    _Fact(("I have started to play the {d}.", "My {d} lessons go well.", "They let me play the {d} at the fair!"),
          ("Which instruments does {b} play?",), ("fiddle", "hurdy-gurdy", "drum", "harp", "bagpipe")),
    _Fact(("I won at {d} again.", "Guess who is champion of {d} this year.", "Nobody beats me at {d} any more."),
          ("In which games or sports did {b} win?",), ("arm wrestling", "nine men's morris", "darts", "swimming", "skittles")),
    _Fact(("I took in {d} for a few days.", "{d} slept in my barn this week.", "I shared my supper with {d}."),
          ("Whom has {b} helped with food or shelter?",),
          ("a lost pilgrim", "two deserters", "the juggler's family", "a wounded stranger", "some shepherds")),
)  # fmt: skip

_BEFORE = (
    "Oh, I meant to tell you!",
    "Well, where shall I begin.",
    "Thanks for asking.",
    "You remembered, how kind of you.",
    "Sit down, this takes a while.",
    "Ha, everybody wants to know that.",
    "Let me think.",
    "I was hoping that you would ask.",
    "It has been quite a month.",
    "Funny that you mention it.",
    "I have slept badly, so forgive me if I ramble.",
)
_AFTER = (
    "What would you have done?",
    "But enough of me, how are you?",
    "I will show you next time.",
    "My family thinks I am mad.",
    "I could talk about it for hours.",
    "It cost me some sleep, I admit.",
    "You should come along one day.",
    "And now I am hungry.",
    "Still, I would not change a thing.",
    "We laughed about it all evening.",
    "I am proud of that, to be honest.",
    "Please keep it to yourself for now.",
    "Life is never dull, is it?",
)
_SMALL_TALK = (
    "Good to see you, {b}!", "The weather is dreadful today.", "Ha, that is so like you.", "I know exactly what you mean.",
    "Take care of yourself.", "Thanks, that means a lot to me.", "Well, I should get back to work soon.",
    "You always say that, {b}.", "Let us sit down for a moment.", "Anything else new?", "I am glad to hear it.",
    "Really? I would not have thought so.", "How time flies.", "My feet are killing me.", "That sounds wonderful, {b}.",
    "Oh no, I am sorry.", "Tell me more some other day.", "Same here, nothing special.", "I had no idea!",
    "Give my love to everyone at home.", "It was nice talking to you.", "You deserve it, {b}.", "I wish I could have been there.",
)  # fmt: skip


def corpus(seed: int) -> Corpus:
    """Three dialogues of twelve sessions each."""
    writer = Writer("conversation", seed)
    names = writer.some(_NAMES, 6)
    for number, (in_text, has_conversation) in enumerate([(True, True), (True, False), (False, True)]):
        _Dialogue(writer, (names[2 * number], names[2 * number + 1]), in_text, has_conversation).write()
    return writer.corpus


class _Dialogue:
    def __init__(self, writer: Writer, names: tuple[str, str], in_text: bool, has_conversation: bool) -> None:
        self._writer, self._names = writer, names
        self._in_text, self._has_conversation = in_text, has_conversation
        self._agent = f"npc:{names[0].lower()}"
        self._session = 0
        self._subjects = {topic: writer.some(topic.subjects, len(topic.subjects)) for topic in _TOPICS}
        self._repeated: dict[tuple[str, _Fact], list[str]] = {}
        self._details = {fact: writer.some(fact.details, len(fact.details)) for fact in _REPEATED}

    def write(self) -> None:
        writer = self._writer
        facts = writer.some([(name, fact) for name in self._names for fact in _FACTS], _SESSIONS)
        again = [
            (name, fact) for name, fact in zip(self._names * 2, _REPEATED, strict=False) for _ in range(3)
        ]
        for self._session in range(_SESSIONS):
            writer.wait(2 * DAY_S, 9 * DAY_S)
            self._talk(2)
            for topic in writer.some([one for one in _TOPICS if self._subjects[one]], 2):
                self._exchange(topic)
                self._talk(writer.random.randint(1, 3))
            self._tell(*facts[self._session])
            self._talk(2)
            if self._session < len(again):
                self._tell_again(*again[self._session])
                self._talk(2)
        for (name, fact), gold in self._repeated.items():
            writer.ask(
                self._agent, writer.say(fact.questions, b=name), *gold, kind="conversation: several answers"
            )

    def _exchange(self, topic: _Topic) -> None:
        asking, asked = self._writer.some(self._names, 2)
        subject, detail = self._subjects[topic].pop(), self._writer.pick(topic.details)
        self._turn(asking, topic.openings, s=subject, b=asked)
        answer = self._writer.pick(topic.answers)
        gold = self._turn(asked, (answer,), s=subject, d=detail)
        question = self._writer.say(topic.questions, b=asked, s=subject)
        kind = "answer with the subject" if "{s}" in answer else "answer without the words"
        self._writer.ask(self._agent, question, gold, kind=f"conversation: {kind}")

    def _tell(self, name: str, fact: _Fact) -> None:
        gold = self._turn(name, fact.statements, d=self._writer.pick(fact.details))
        self._writer.ask(
            self._agent, self._writer.say(fact.questions, b=name), gold, kind="conversation: fact"
        )

    def _tell_again(self, name: str, fact: _Fact) -> None:
        gold = self._turn(name, fact.statements, d=self._details[fact].pop())
        self._repeated.setdefault((name, fact), []).append(gold)

    def _talk(self, turns: int) -> None:
        speakers = self._writer.some(self._names, 2)
        for number in range(turns):
            self._turn(speakers[number % 2], _SMALL_TALK, b=speakers[1 - number % 2])

    def _turn(self, speaker: str, templates: tuple[str, ...], **values: Any) -> str:
        self._writer.wait(5, 40)
        text = self._writer.say(templates, **values)
        if self._writer.random.random() < _WORDY:
            text = f"{self._writer.pick(_BEFORE)} {text}"
        if self._writer.random.random() < _WORDY:
            text = f"{text} {self._writer.pick(_AFTER)}"
        metadata = {"speaker": speaker}
        if self._has_conversation:
            metadata["conversation"] = f"{self._agent} {self._session}"
        return self._writer.event(
            self._agent, f"{speaker}: {text}" if self._in_text else text, type="chat", metadata=metadata
        )
