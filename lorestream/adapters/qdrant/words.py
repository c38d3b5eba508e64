"""The words of a text as a sparse vector for BM25: one layout of these vectors for each collection.

Texts become sparse vectors here, with the tokenizer, the stop words and the Snowball stemmers of Qdrant: a server can
compute them too, but only newer versions do, with defaults of their own. The inverse document frequency, the other
half of BM25, is applied by the engine at search time.

Which words a text has depends on the layout: a version of the rules below, and the languages. A collection records its
layout, and everything that is written to it or searched in it uses that one.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Protocol

import qdrant_edge as edge
import structlog

from lorestream.adapters.qdrant.engine import SparseVector
from lorestream.errors import Misconfigured
from lorestream.plain_text import plain

_log = structlog.get_logger("lorestream.store")

K = 0.9
B = 0.75
PIVOT = 60
"""BM25's parameters. A text of at most `PIVOT` words has no handicap; beyond that its words count less and less.

So an event is not preferred for being short, and a long message not for holding many words. Measured in
docs/retrieval.md.
"""

FIRST_LAYOUT = ""
"""The layout of collections that do not record one: English stop words, no stemmer, nothing else of the rules below."""
_VERSION = "2"
_MAX_CACHED_WORDS = 32_768
"""About 10 MB. When there are more, all are forgotten: most texts consist of few thousand different words."""
_MAX_CACHED_LENGTH = 64

# --- parts of a text ------------------------------------------------------------------------------------------

_UNSPACED = re.compile(
    "[\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
)
"""A run of Chinese, Japanese or Korean characters, which is not divided into words by spaces."""
_CAPITALISED = re.compile(r"^\W*([^\W\d_]{2,})(?:['\u2019]s)?\W*$")
"""A piece of a text that is a single word; whether it begins with a capital is checked in Python."""
_WITHIN_SENTENCE = ",;&)'\u2019\""
"""After a word with one of these characters at its end the sentence goes on, as it does after a letter or a digit."""
_INITIAL, _NAME = "\u01c0", "\u01c3"
"""Letters that no language's words begin with. They mark a stop word with a capital, at the beginning of a sentence and
within it: "Will you come?" and "I saw Will" have two different words, and neither is the stop word "will"."""


def _pieces(text: str) -> list[str]:
    """The text, normalised, cut at white space; runs of Chinese, Japanese, Korean into single and double characters."""
    text = plain(text)
    if not text.isascii():
        text = _UNSPACED.sub(_grams, unicodedata.normalize("NFKC", text))
    return text.split()


def _grams(run: re.Match[str]) -> str:
    characters = run[0]
    pairs = [first + second for first, second in pairwise(characters)]
    return f" {' '.join((*characters, *pairs))} "


def _fold(piece: str) -> str:
    """Without differences of case. Not `casefold`: stop words and stemmers know the final sigma of Greek."""
    return piece.lower().replace("ß", "ss").replace("i̇", "i")


def _is_name(pieces: Sequence[str], place: int) -> bool:
    """Whether the capital of this piece says that it is a name, because it is not at the beginning of a sentence.

    The speaker before a colon, at the beginning of the text, is a name too.
    """
    if place == 0:
        return pieces[0].endswith(":")
    last = pieces[place - 1][-1]
    return last.isalnum() or last in _WITHIN_SENTENCE


# --- layouts --------------------------------------------------------------------------------------------------


class Words(Protocol):
    """Texts as sparse vectors, in the layout of one collection."""

    @property
    def layout(self) -> str:
        """What the collection records: it is the argument of `open_words`."""
        ...

    def document(self, text: str) -> SparseVector | None:
        """The vector that is stored for a text; None if the text has no words."""
        ...

    def query(self, text: str) -> SparseVector | None:
        """The vector that a query searches for; None if the query has no words."""
        ...


def layout_of(languages: Sequence[str]) -> str:
    """The newest layout, for texts in these languages."""
    return f"{_VERSION}:{','.join(languages)}"


DEFAULT_LAYOUT = layout_of(("english",))


def describe(layout: str) -> str:
    """The languages of a layout, for messages."""
    return layout.partition(":")[2] or "english (without a stemmer, as of an older version)"


REMEDY = "`lorestream replay --to NAME`, then `lorestream alias swap NAME`"
"""What brings the layout of the settings into effect."""


def warn_of_other_layout(collection: str, layout: str, wanted: str) -> None:
    """Log a warning if the layout of a collection is not the one of the settings, and what to do about it."""
    if layout != wanted:
        _log.warning(
            "the words of this collection are not stored as LORESTREAM_KEYWORD__LANGUAGE says: searches for words use"
            f" what is stored until the collection is replaced ({REMEDY})",
            collection=collection,
            language=describe(layout),
            wanted=describe(wanted),
        )


def open_words(layout: str) -> Words:
    """The words of a layout. Raises Misconfigured when this version does not know it."""
    if layout == FIRST_LAYOUT:
        return _FirstWords()
    version, _, languages = layout.partition(":")
    try:
        if version == _VERSION:
            return _StemmedWords(tuple(languages.split(",")))
    except ValueError:
        pass  # a language that Qdrant does not know
    raise Misconfigured(
        f"a collection has the word layout {layout}, which this lorestream does not know: start the version that made it"
    )


class _FirstWords:
    """The first layout: English stop words are left out, words are not stemmed, lengths do not count."""

    layout = FIRST_LAYOUT

    def __init__(self) -> None:
        self._bm25 = edge.Bm25(edge.Bm25Config(language="english", stemmer=edge.DisabledStemmer(), b=0.0))

    def document(self, text: str) -> SparseVector | None:
        return _sparse(self._bm25.embed_document(text))

    def query(self, text: str) -> SparseVector | None:
        return _sparse(self._bm25.embed_query(text))


def _sparse(embedded: edge.SparseVector) -> SparseVector | None:
    return SparseVector(embedded.indices, embedded.values) if embedded.indices else None


class _Terms(dict[str, tuple[int, ...]]):
    """The indices of a piece of a text, in all languages; computed once."""

    def __init__(self, languages: _Languages) -> None:
        super().__init__()
        self._languages = languages
        self.as_name: dict[str, tuple[int, ...]] = {}
        """The pieces among the keys that may be names, that is, stop words that begin with a capital; and the indices
        that they have as names."""

    def __missing__(self, piece: str) -> tuple[int, ...]:
        word = self._languages.capitalised_stop_word(piece)
        indices = self._languages.all_words(piece) if word is None else self._languages.mark(_INITIAL, word)
        if len(piece) <= _MAX_CACHED_LENGTH:
            self[piece] = indices
            if word is not None:
                self.as_name[piece] = self._languages.mark(_NAME, word)
        return indices


class _Languages:
    """The words of single pieces of a text, in several languages at once.

    A word has one stem for each language, and so up to as many indices. Stop words are words of a text, too; they are
    left out of queries.
    """

    def __init__(self, languages: Sequence[str]) -> None:
        none = edge.StopwordsSet()
        self._keeping = [edge.Bm25(edge.Bm25Config(language=one, stopwords=none)) for one in languages]
        self._dropping = [edge.Bm25(edge.Bm25Config(language=one)) for one in languages]

    def all_words(self, piece: str) -> tuple[int, ...]:
        """The indices of the words in this piece, stop words included."""
        folded = _fold(piece)
        if len(self._keeping) == 1:
            return tuple(self._keeping[0].embed_query(folded).indices)
        return tuple({index for one in self._keeping for index in one.embed_query(folded).indices})

    def content(self, piece: str) -> list[int]:
        """The indices of the words in this piece, once for each language; none if they are stop words in one of them."""
        folded = _fold(piece)
        found = [one.embed_query(folded).indices for one in self._dropping]
        return [index for one in found for index in one] if all(found) else []

    def capitalised_stop_word(self, piece: str) -> str | None:
        """The word in this piece, folded, if it is a stop word and begins with a capital."""
        found = _CAPITALISED.match(piece)
        if found is None or not found[1].istitle() or self.content(found[1]):
            return None
        return _fold(found[1])

    def mark(self, mark: str, word: str) -> tuple[int, ...]:
        """The indices of a word with one of the marks of capitals."""
        return tuple(self._keeping[0].embed_query(mark + word).indices)


class _StemmedWords:
    """The layout of this version.

    All words of a text are stored, so that a question which has nothing but stop words still finds what holds them.
    """

    def __init__(self, languages: tuple[str, ...]) -> None:
        self.layout = layout_of(languages)
        self._share = 1 / len(languages)
        self._languages = _Languages(languages)
        self._terms = _Terms(self._languages)

    def document(self, text: str) -> SparseVector | None:
        pieces = _pieces(text)
        terms = self._terms
        if len(terms) > _MAX_CACHED_WORDS:
            terms = self._terms = _Terms(self._languages)
        found = list(map(terms.__getitem__, pieces))
        if names := [place for place, piece in enumerate(pieces) if piece in terms.as_name]:
            for place in names:
                if _is_name(pieces, place):
                    found[place] = terms.as_name[pieces[place]]
        counts = Counter(chain.from_iterable(found))
        if not counts:
            return None
        weights = _SHORT_TEXT_WEIGHTS if len(pieces) <= PIVOT else _weights(len(pieces), max(counts.values()))
        return SparseVector(list(counts), [weights[times] for times in counts.values()])

    def query(self, text: str) -> SparseVector | None:
        pieces = _pieces(text)
        if not pieces:
            return None
        languages = self._languages
        weights: dict[int, float] = {}
        for place, piece in enumerate(pieces):
            word = languages.capitalised_stop_word(piece)
            if word is None:
                # A word with several stems does not count several times.
                for index in languages.content(piece):
                    weights[index] = min(1.0, weights.get(index, 0.0) + self._share)
            elif _is_name(pieces, place):
                weights.update(dict.fromkeys(self._as_name(word), 1.0))
        if not weights:  # nothing but stop words: then these are what is asked for
            for piece in pieces:
                found = _CAPITALISED.match(piece)
                as_name = self._as_name(_fold(found[1])) if found else ()
                weights.update(dict.fromkeys((*languages.all_words(piece), *as_name), 1.0))
        if not weights:
            return None
        return SparseVector(list(weights), list(weights.values()))

    def _as_name(self, word: str) -> tuple[int, ...]:
        return (*self._languages.mark(_NAME, word), *self._languages.mark(_INITIAL, word))


def _weights(length: int, most: int) -> list[float]:
    """BM25's weight of a word that occurs 0, 1, ... `most` times in a text of `length` words."""
    handicap = K * (1 - B + B * max(1.0, length / PIVOT))
    return [times * (K + 1) / (times + handicap) for times in range(most + 1)]


_SHORT_TEXT_WEIGHTS = _weights(1, PIVOT)
