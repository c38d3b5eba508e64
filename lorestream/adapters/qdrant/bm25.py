"""Texts as the sparse vectors of BM25, by Qdrant's own tokenizer.

A server can make them too, but only from its version and its defaults. Made here for both engines, the same text
is the same vector in both. The other half of BM25, how rare a word is, is the engine's part of a search.
"""

from __future__ import annotations

import qdrant_edge as edge

from lorestream.adapters.qdrant.engine import Words

_MODEL = edge.Bm25(edge.Bm25Config(language="english", stemmer=edge.DisabledStemmer(), b=0.0))
"""English stopwords only; measured in docs/retrieval.md.

Events are a sentence each: a longer one says more, so length counts for nothing (b = 0). Without a stemmer keyword
finds the words themselves, such as names, and meaning is left to the other vector.
"""


def document(text: str) -> Words | None:
    """What is stored of a text, None where it has no word."""
    return _words(_MODEL.embed_document(text))


def query(text: str) -> Words | None:
    """What is looked for, None where the text has no word."""
    return _words(_MODEL.embed_query(text))


def _words(made: edge.SparseVector) -> Words | None:
    return Words(made.indices, made.values) if made.indices else None
