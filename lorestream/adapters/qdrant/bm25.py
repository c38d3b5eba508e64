"""Texts as sparse BM25 vectors, by Qdrant's own tokenizer.

A server can compute them too, but only newer versions do, with defaults of their own. Computed here, the same text
has the same vector in both engines. The inverse document frequency, the other half of BM25, is applied by the engine
at search time.
"""

from __future__ import annotations

import qdrant_edge as edge

from lorestream.adapters.qdrant.engine import SparseVector

_MODEL = edge.Bm25(edge.Bm25Config(language="english", stemmer=edge.DisabledStemmer(), b=0.0))
"""English stop words, no stemmer, no length normalisation (b = 0); measured in docs/retrieval.md.

An event is one sentence, and a longer one says more, so its length is not held against it. Without a stemmer the
keyword mode finds exact words, such as names; the dense vector finds related words.
"""


def embed_document(text: str) -> SparseVector | None:
    """The vector that is stored for a text; None if the text has no words."""
    return _sparse_vector(_MODEL.embed_document(text))


def embed_query(text: str) -> SparseVector | None:
    """The vector that a query searches for; None if the query has no words."""
    return _sparse_vector(_MODEL.embed_query(text))


def _sparse_vector(embedded: edge.SparseVector) -> SparseVector | None:
    return SparseVector(embedded.indices, embedded.values) if embedded.indices else None
