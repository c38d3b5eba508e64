"""The embedder of tests: its vectors are the same everywhere and for ever."""

import numpy as np

from lorestream.adapters.embedders.hash import HashEmbedder


async def test_a_text_has_its_vector_on_every_machine():
    async with HashEmbedder(4) as embedder:
        made = await embedder.embed(["an oak by the mill"])
    wanted = np.array([[-0.5087467, -0.2560359, -0.8013591, -0.1828828]], np.float32)
    np.testing.assert_allclose(made.vectors, wanted, atol=1e-6)


async def test_different_texts_lie_apart():
    async with HashEmbedder(384) as embedder:
        vectors = (await embedder.embed([f"text {i}" for i in range(200)])).vectors
    similar = vectors @ vectors.T - np.eye(200)
    assert np.abs(similar).max() < 0.4


def test_the_name_says_the_dimension():
    assert HashEmbedder(16).model_id == "hash-v1-16"
    assert HashEmbedder(16).dim == 16
