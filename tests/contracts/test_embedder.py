"""What every embedder promises, whatever computes the vectors."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from lorestream.adapters.embedders.hash import HashEmbedder
from lorestream.adapters.embedders.http import HttpEmbedder
from lorestream.adapters.embedders.openvino import OpenVinoEmbedder
from lorestream.adapters.embedders.queue import CHUNK_TEXTS, QueuedEmbedder
from lorestream.adapters.embedders.torch import TorchEmbedder
from lorestream.errors import Overloaded, Unavailable
from lorestream.ports import Embedder, Priority
from tests import reference_vectors
from tests.embedding_server import KEY, MODEL, EmbeddingServer
from tests.models import REAL_MODEL, real_model
from tests.reference_vectors import UNUSUAL_TEXTS
from tests.sentences import game_sentences
from tests.vectors import cosines, neighbours_kept

NewEmbedder = Callable[..., QueuedEmbedder | HttpEmbedder]

# torch and transformers warn about their own insides.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="session")
def opened() -> dict[str, QueuedEmbedder]:
    return {}


@pytest.fixture(scope="session")
def embedding_server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer().serving() as server:
        yield server


@pytest.fixture(
    params=[
        "hash",
        "http",
        pytest.param("openvino", marks=pytest.mark.model),
        pytest.param("torch", marks=[pytest.mark.model, pytest.mark.soak]),
    ]
)
def new_embedder(request: pytest.FixtureRequest, opened: dict[str, QueuedEmbedder]) -> NewEmbedder:
    """Makes embedders with a queue and a cache of their own over one model, which is loaded once."""
    kind = request.param
    if kind == "http":
        at = {"url": request.getfixturevalue("embedding_server").url, "model": MODEL, "dim": 384}
        return lambda **how: HttpEmbedder(**at, api_key=KEY, max_texts=CHUNK_TEXTS, parallel=1, **how)
    if kind not in opened:
        opened[kind] = _open(kind)
    return lambda **how: QueuedEmbedder(opened[kind]._encoder, **how)


def _open(kind: str) -> QueuedEmbedder:
    match kind:
        case "openvino":
            return OpenVinoEmbedder.open(real_model().directory)
        case "torch":
            return TorchEmbedder.open(REAL_MODEL, device="cpu")
        case _:
            return HashEmbedder()


@pytest.fixture
async def embedder(new_embedder: NewEmbedder):
    async with new_embedder() as embedder:
        yield embedder


async def test_a_row_of_length_one_for_each_text(embedder: Embedder):
    texts = game_sentences(100)
    made = await embedder.embed(texts)
    assert made.vectors.dtype == np.float32
    assert made.vectors.shape == (100, embedder.dim)
    assert list(made.truncated) == [False] * 100
    np.testing.assert_allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-5)


async def test_rows_stand_in_the_order_of_the_texts(new_embedder: NewEmbedder):
    texts = game_sentences(60, seed=2)
    async with new_embedder() as first, new_embedder() as second:
        together = (await first.embed(texts)).vectors
        backwards = (await second.embed(texts[::-1])).vectors
        alone = [(await second.embed([text])).vectors[0] for text in texts[:5]]
    assert cosines(together, backwards[::-1]).min() > 0.9995
    assert cosines(together[:5], np.array(alone)).min() > 0.9995
    assert np.array_equal(backwards[::-1][:5], alone)  # the cache gives what the model gave
    others = together @ together.T - np.eye(60)
    assert others.max() < 0.9995  # so that the wrong row would have been seen


async def test_a_vector_does_not_depend_on_its_neighbours(new_embedder: NewEmbedder):
    texts = game_sentences(20, seed=3)
    async with new_embedder(cache_entries=0) as embedder:
        batch = (await embedder.embed([*texts, "a long one " * 20])).vectors[:-1]
        alone = np.concatenate([(await embedder.embed([text])).vectors for text in texts])
    assert cosines(batch, alone).min() > 0.9995


async def test_equal_texts_have_equal_rows(embedder: Embedder):
    texts = ["the mill", "an oak", "the mill", "\x1b(c@#00ff00)the mill\x1b(c@#ffffff)", "the\0 mill"]
    vectors = (await embedder.embed(texts)).vectors
    for row in (2, 3, 4):
        assert np.array_equal(vectors[0], vectors[row])
    assert not np.allclose(vectors[0], vectors[1])
    assert np.array_equal((await embedder.embed(["the mill"])).vectors[0], vectors[0])


async def test_no_texts_no_rows(embedder: Embedder):
    made = await embedder.embed([])
    assert made.vectors.shape == (0, embedder.dim)
    assert list(made.truncated) == []


async def test_a_text_beyond_the_limit_is_embedded_by_its_beginning(embedder: Embedder):
    words = ["stone"] * 200 + ["wood"] * 54
    made = await embedder.embed(
        [" ".join(words), " ".join([*words, "water"]), " ".join(words + ["iron"] * 900)]
    )
    # A server that cuts off doesn't say so.
    assert list(made.truncated) == [False, *[not isinstance(embedder, HttpEmbedder)] * 2]
    for row in (1, 2):
        assert made.vectors[0] @ made.vectors[row] > 0.9995


async def test_any_string_has_a_vector(embedder: Embedder):
    made = await embedder.embed(UNUSUAL_TEXTS)
    np.testing.assert_allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-5)
    assert made.truncated[UNUSUAL_TEXTS.index("a b " * 25_000)] != isinstance(embedder, HttpEmbedder)
    assert not made.truncated[0]
    for text in UNUSUAL_TEXTS:
        assert embedder.count_tokens(text) >= 0


async def test_tokens_are_counted(embedder: Embedder):
    assert embedder.count_tokens("") == 0
    assert embedder.count_tokens("stone") == 1
    # A server shows no tokenizer: then it is an estimate, by the bytes here.
    wanted = 1500 if isinstance(embedder, HttpEmbedder) else 1000
    assert embedder.count_tokens("stone " * 1000) == wanted


async def test_names_its_vectors(embedder: Embedder):
    assert "@" in embedder.model_id or embedder.model_id == "hash-v1-384"
    assert embedder.dim == 384


async def test_a_query_overtakes_the_ingest(embedder: Embedder):
    finished: list[str] = []

    async def call(name: str, texts: list[str], priority: Priority) -> None:
        await embedder.embed(texts, priority)
        finished.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(call("ingest", game_sentences(4 * CHUNK_TEXTS), Priority.INGEST))
        await asyncio.sleep(0)  # its first chunk is on the way
        group.create_task(call("query", ["where is the mill?"], Priority.QUERY))
    assert finished == ["query", "ingest"]


async def test_a_full_queue_refuses_and_accepts_again(new_embedder: NewEmbedder):
    texts = game_sentences(40)
    async with new_embedder(queue_texts=32) as embedder:
        # Whichever comes into the queue first leaves no room for the other.
        *both, query = await asyncio.gather(
            embedder.embed(texts[:32]),
            embedder.embed(texts[:33]),
            embedder.embed(["a query has room of its own"], Priority.QUERY),
            return_exceptions=True,
        )
        assert [isinstance(one, Overloaded) for one in both].count(True) == 1
        assert not isinstance(query, BaseException)
        assert (await embedder.embed(texts)).vectors.shape == (40, embedder.dim)


async def test_a_caller_who_leaves_frees_the_queue(new_embedder: NewEmbedder):
    texts = game_sentences(96)
    async with new_embedder(queue_texts=64) as embedder:
        leaver = asyncio.create_task(embedder.embed(texts[:64]))
        stayer = asyncio.create_task(embedder.embed(texts[:1], Priority.QUERY))
        await asyncio.sleep(0)
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        assert (await embedder.embed(texts[32:])).vectors.shape == (64, embedder.dim)
        assert (await stayer).vectors.shape == (1, embedder.dim)


async def test_closing_ends_what_waits(new_embedder: NewEmbedder):
    embedder = new_embedder()
    waiting = asyncio.create_task(embedder.embed(game_sentences(4 * CHUNK_TEXTS)))
    await asyncio.sleep(0)
    await embedder.close()
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await embedder.embed(["too late"])
    await embedder.close()


async def test_many_callers_each_get_their_own(embedder: Embedder):
    texts = game_sentences(60, seed=4)
    wanted = (await embedder.embed(texts)).vectors
    pairs = [texts[i : i + 2] for i in range(0, 60, 2)]
    made = await asyncio.gather(*(embedder.embed(pair, Priority(i % 2)) for i, pair in enumerate(pairs)))
    assert np.array_equal(np.concatenate([one.vectors for one in made]), wanted)


async def test_says_where_vectors_came_from(new_embedder: NewEmbedder):
    counts = {"model": 0, "cache": 0}

    def count(source: str, texts: int) -> None:
        counts[source] += texts

    async with new_embedder(on_texts=count) as embedder:
        await embedder.embed(["oak", "oak", "mill"])
        assert counts == {"model": 2, "cache": 1}
        await embedder.embed(["oak", "bridge"], Priority.QUERY)
        assert counts == {"model": 3, "cache": 2}
        await asyncio.gather(embedder.embed(["gate", "sea"]), embedder.embed(["gate", "sea"]))
        assert counts == {"model": 5, "cache": 4}


@pytest.mark.model
async def test_openvino_computes_the_reference_vectors():
    reference = reference_vectors.load()
    async with _open("openvino") as openvino:
        embeddings = await openvino.embed(reference.texts)
        tokens = [openvino.count_tokens(text) for text in reference.texts]
    assert openvino.model_id == reference.model_id
    assert list(embeddings.truncated) == reference.truncated
    assert tokens == reference.tokens
    assert cosines(reference.vectors, embeddings.vectors).min() >= 0.999
    assert neighbours_kept(reference.vectors[:400], embeddings.vectors[:400]) >= 0.98


@pytest.mark.model
@pytest.mark.soak
async def test_torch_computes_the_reference_vectors():
    recorded, computed = reference_vectors.load(), await reference_vectors.compute()
    assert computed.model_id == recorded.model_id
    assert (computed.truncated, computed.tokens) == (recorded.truncated, recorded.tokens)
    assert cosines(recorded.vectors, computed.vectors).min() >= 0.99999


@pytest.mark.model
def test_serving_loads_no_torch_and_greets_nobody():
    program = """
import asyncio, sys
from pathlib import Path
from lorestream.adapters.embedders import model_files
from lorestream.adapters.embedders.openvino import OpenVinoEmbedder

async def main():
    async with OpenVinoEmbedder.open(Path(sys.argv[1])) as embedder:
        await embedder.embed(["hello"])

asyncio.run(main())
print([name for name in ("torch", "sentence_transformers", "safetensors", "huggingface_hub", "openvino_telemetry") if name in sys.modules])
"""
    command = [sys.executable, "-W", "error", "-c", program, str(real_model().directory)]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    assert (said.stdout, said.stderr) == ("[]\n", "")
