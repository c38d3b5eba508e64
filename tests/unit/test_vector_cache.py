"""The text-to-vector cache."""

import numpy as np

from lorestream.adapters.embedders.texts import CachedVector, VectorCache, text_key


def entry(number: float) -> CachedVector:
    return CachedVector(np.full(2, number, np.float32), truncated=False)


def test_the_least_recently_used_goes_first():
    cache = VectorCache(2)
    cache.put(b"a", entry(1))
    cache.put(b"b", entry(2))
    assert cache.get(b"a") is not None
    cache.put(b"c", entry(3))
    assert len(cache) == 2
    assert cache.get(b"b") is None
    assert cache.get(b"a") is not None
    assert cache.get(b"c") is not None


def test_no_entries_keep_nothing():
    cache = VectorCache(0)
    cache.put(b"a", entry(1))
    assert len(cache) == 0
    assert cache.get(b"a") is None


def test_keys_tell_texts_apart():
    texts = ["", " ", "oak", "Oak", "oak ", "\ufffd"]
    assert len({text_key(text) for text in texts}) == len(texts)
    assert {len(text_key(text)) for text in texts} == {16}
