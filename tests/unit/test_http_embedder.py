"""The embedder over HTTP against a server that refuses, fails, hangs and answers nonsense."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import numpy as np
import pytest
from starlette.responses import Response

from deploy.local.process import free_port
from lorestream.adapters.embedders.hash import HashEmbedder
from lorestream.adapters.embedders.http import HttpEmbedder
from lorestream.adapters.embedders.prefixes import Prefixes
from lorestream.errors import InvalidRequest, Misconfigured, Overloaded, Unavailable
from lorestream.ports import Priority, Role
from tests.embedding_server import KEY, MODEL, EmbeddingServer, Rows, body, refusal
from tests.own_time import own_time
from tests.sentences import game_sentences

QUICK = {Priority.QUERY: 0.5, Priority.INGEST: 2.0}


@pytest.fixture(scope="module")
def running_server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer().serving() as server:
        yield server


@pytest.fixture
def server(running_server: EmbeddingServer) -> EmbeddingServer:
    running_server.reset()
    return running_server


def new(server: EmbeddingServer, **how: Any) -> HttpEmbedder:
    how = {"url": server.url, "model": MODEL, "dim": 384, "api_key": KEY, "retry_timeout_s": QUICK} | how
    return HttpEmbedder(**how)


async def right(texts: list[str]) -> np.ndarray:
    async with HashEmbedder() as reference:
        return (await reference.embed(texts)).vectors


async def test_the_prefix_of_the_role_is_sent(server: EmbeddingServer) -> None:
    prefixes = Prefixes(query="query: ", passage="passage: ")
    async with HttpEmbedder.open(url=server.url, model=MODEL, api_key=KEY, prefixes=prefixes) as embedder:
        assert embedder.model_id.startswith(f"http:127.0.0.1/{MODEL}@384/prefixes-")
        await embedder.embed(["oak"])
        await embedder.embed(["oak"], Priority.QUERY, Role.QUERY)
    assert server.requests[-2:] == [["passage: oak"], ["query: oak"]]


# --- the start -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/embeddings"])
async def test_the_address_may_end_in_several_ways(server: EmbeddingServer, path: str) -> None:
    async with HttpEmbedder.open(url=server.url + path, model=MODEL, api_key=KEY) as embedder:
        assert embedder.dim == 384
        assert embedder.model_id == f"http:127.0.0.1/{MODEL}@384"
        assert np.allclose((await embedder.embed(["oak"])).vectors, await right(["oak"]), atol=1e-6)


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ({"api_key": "sk-wrong"}, "API_KEY"),
        ({"api_key": None}, "API_KEY"),
        ({"model": "unknown"}, "MODEL"),
        ({"path": "/elsewhere/v1"}, "URL"),
        ({"dim": 768}, "384"),
        ({"url": "ftp://127.0.0.1"}, "URL"),
        ({"url": "http://"}, "URL"),
        ({"url": "localhost:8080"}, "URL"),
    ],
)
async def test_what_is_set_wrongly_is_refused_at_the_start(
    server: EmbeddingServer, how: dict[str, Any], word: str
) -> None:
    url = server.url + how.pop("path", "")
    began = own_time()
    with pytest.raises(Misconfigured, match=word) as caught:
        async with HttpEmbedder.open(**{"url": url, "model": MODEL, "api_key": KEY} | how):
            pass
    assert "sk-" not in str(caught.value)
    assert own_time() - began < 2


async def test_a_server_that_refuses_any_text_is_refused(server: EmbeddingServer) -> None:
    server.refuse = lambda texts: True
    with pytest.raises(Misconfigured, match="is invalid"):
        async with HttpEmbedder.open(url=server.url, model=MODEL, api_key=KEY):
            pass


async def test_a_server_that_is_away_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorestream.adapters.embedders.http.RETRY_TIMEOUT_S", QUICK)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
        async with HttpEmbedder.open(url=f"http://127.0.0.1:{free_port()}", model=MODEL):
            pass


# --- one request -----------------------------------------------------------------------------------------


def shuffled(rows: Rows) -> Response:
    return body(rows[::-1])


async def test_rows_are_put_in_order_by_their_index(server: EmbeddingServer) -> None:
    texts = game_sentences(20)
    server.faults.append(shuffled)
    async with new(server) as embedder:
        assert np.allclose((await embedder.embed(texts)).vectors, await right(texts), atol=1e-6)


def _row(change: dict[str, Any]) -> Any:
    return lambda rows: body([rows[0] | change, *rows[1:]])


NONSENSE = {
    "too few": lambda rows: body(rows[:-1]),
    "too many": lambda rows: body([*rows, rows[0] | {"index": len(rows)}]),
    "twice": lambda rows: body([rows[0] | {"index": 1}, *rows[1:]]),
    "another dimension": lambda rows: body([row | {"embedding": row["embedding"][:100]} for row in rows]),
    "one of another dimension": _row({"embedding": [1.0]}),
    "empty": lambda rows: body([row | {"embedding": []} for row in rows]),
    "zeros": _row({"embedding": [0.0] * 384}),
    "null": _row({"embedding": [None] * 384}),
    "huge": _row({"embedding": [1e39] * 384}),
    "base64": _row({"embedding": "AAAA"}),
    "nan": lambda rows: Response(
        json.dumps({"data": [row | {"embedding": [float("nan")] * 384} for row in rows]})
    ),
    "no json": lambda rows: Response("<html>"),
    "not utf-8": lambda rows: Response(b'{"data": "\xff"}'),
    "another document": lambda rows: Response('{"error": {"message": "who knows"}}'),
}


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_nonsense_never_becomes_a_vector(server: EmbeddingServer, nonsense: str) -> None:
    texts = ["oak", "mill", "bridge"]
    server.faults.extend([NONSENSE[nonsense]] * 1000)
    async with new(server, retry_timeout_s=dict.fromkeys(Priority, 0.1)) as embedder:
        with pytest.raises(Unavailable):
            await embedder.embed(texts)
        server.faults.clear()
        assert np.allclose((await embedder.embed(texts)).vectors, await right(texts), atol=1e-6)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
async def test_what_may_pass_is_tried_again(server: EmbeddingServer, status: int) -> None:
    server.faults.extend([lambda _: refusal(status)] * 2)
    async with new(server) as embedder:
        assert np.allclose((await embedder.embed(["oak"])).vectors, await right(["oak"]), atol=1e-6)
    assert len(server.requests) == 3


async def test_a_server_says_when_to_come_again(server: EmbeddingServer) -> None:
    async with new(server) as embedder:
        server.faults.append(lambda _: refusal(429, Retry_After="1"))
        began = time.monotonic()
        await embedder.embed(["oak"])
        assert time.monotonic() - began >= 1

        date = int(time.time()) + 2
        server.faults.append(lambda _: refusal(503, Retry_After=formatdate(date, usegmt=True)))
        await embedder.embed(["mill"])
        assert time.time() >= date

        server.faults.append(lambda _: refusal(503, Retry_After="soon"))
        await embedder.embed(["bridge"])

        server.faults.append(lambda _: refusal(429, Retry_After="60"))  # nobody waits for so long
        began = own_time()
        with pytest.raises(Unavailable) as caught:
            await embedder.embed(["gate"])
        assert own_time() - began < 10
        assert caught.value.retry_after_ms == 60_000

        server.faults.append(lambda _: refusal(429, Retry_After="9" * 400))
        with pytest.raises(Unavailable) as caught:
            await embedder.embed(["ford"])
        assert caught.value.retry_after_ms == 3_600_000


async def test_a_server_that_hangs_is_given_up(server: EmbeddingServer) -> None:
    async def hang(_: Rows) -> Response:
        await asyncio.sleep(2)
        return refusal(500)

    server.faults.append(hang)
    async with new(server, timeout_s=1) as embedder:
        await embedder.embed(["oak"])
        server.faults.extend([hang] * 100)
        began = own_time()
        with pytest.raises(Unavailable, match="did not answer within"):
            await embedder.embed(["mill"], Priority.QUERY)
        assert own_time() - began < 10
    while server.running:
        await asyncio.sleep(0.05)


async def test_a_key_that_is_withdrawn_later_is_an_outage(server: EmbeddingServer) -> None:
    async with new(server) as embedder:
        server.faults.append(lambda _: refusal(401))
        with pytest.raises(Unavailable, match="API_KEY"):
            await embedder.embed(["oak"])
        await embedder.embed(["oak"])


async def test_one_text_that_is_refused_costs_its_neighbours_nothing(server: EmbeddingServer) -> None:
    texts = game_sentences(30)
    bad = texts[17]
    server.refuse = lambda asked: bad in asked
    async with new(server) as embedder:
        with pytest.raises(InvalidRequest, match="is invalid"):
            await embedder.embed(texts)
        assert len(server.requests) <= 2 * 6
        server.requests.clear()
        good = [text for text in texts if text != bad]
        assert np.allclose((await embedder.embed(good)).vectors, await right(good), atol=1e-6)
        assert server.requests == []
        with pytest.raises(InvalidRequest):
            await embedder.embed([bad])


async def test_one_text_over_which_the_server_fails_costs_its_neighbours_nothing(
    server: EmbeddingServer,
) -> None:
    server.refusal_status = 500
    texts = game_sentences(8)
    bad = texts[5]
    server.refuse = lambda asked: bad in asked
    async with new(server, retry_timeout_s=dict.fromkeys(Priority, 0.01)) as embedder:
        for asked in (texts, [bad]):
            with pytest.raises(InvalidRequest, match="answered 500"):
                await embedder.embed(asked)
        with pytest.raises(Unavailable, match="answered 500"):
            await embedder.embed([bad], Priority.QUERY)
        server.requests.clear()
        await embedder.embed([text for text in texts if text != bad])
        assert server.requests == []


async def test_a_server_of_small_batches_gets_smaller_ones(server: EmbeddingServer) -> None:
    texts = game_sentences(60)
    server.refuse = lambda asked: len(asked) > 8
    async with new(server) as embedder:
        assert np.allclose((await embedder.embed(texts)).vectors, await right(texts), atol=1e-6)


# --- many requests ---------------------------------------------------------------------------------------


async def test_batches_are_bounded_and_go_side_by_side(server: EmbeddingServer) -> None:
    texts = game_sentences(200)
    server.delay_s = 0.1
    async with new(server, max_texts=20, parallel=3) as embedder:
        assert np.allclose((await embedder.embed(texts)).vectors, await right(texts), atol=1e-6)
    assert [len(request) for request in server.requests] == [20] * 10
    assert server.max_running == 3


async def test_long_texts_go_in_smaller_batches(server: EmbeddingServer) -> None:
    texts = [f"{n} " + "x" * 30_000 for n in range(6)]
    async with new(server) as embedder:
        await embedder.embed(texts)
    assert [len(request) for request in server.requests] == [2, 2, 2]


async def test_a_query_does_not_wait_for_the_ingest(server: EmbeddingServer) -> None:
    server.delay_s = 0.3
    async with new(server, max_texts=1, parallel=1) as embedder:
        ingest = asyncio.create_task(embedder.embed(["oak", "mill", "gate"]))
        await asyncio.sleep(0.05)
        await embedder.embed(["gate"], Priority.QUERY)  # also one that stands in the ingest's queue
        assert not ingest.done()
        await ingest


async def test_equal_texts_are_sent_once(server: EmbeddingServer) -> None:
    server.delay_s = 0.1
    async with new(server) as embedder:
        made = await asyncio.gather(*(embedder.embed(["oak", "oak", "mill"]) for _ in range(20)))
        assert len({each.vectors.tobytes() for each in made}) == 1
        await embedder.embed(["mill"])
    assert server.requests == [["oak", "mill"]]


async def test_what_nobody_waits_for_is_given_up_and_what_another_waits_for_is_not(
    server: EmbeddingServer,
) -> None:
    server.delay_s = 1
    async with new(server, max_texts=1, parallel=1, queue_texts=4) as embedder:
        leaver = asyncio.create_task(embedder.embed(["oak", "mill", "gate"]))
        stayer = asyncio.create_task(embedder.embed(["mill"]))
        while not server.requests:
            await asyncio.sleep(0.01)
        server.delay_s = 0
        with pytest.raises(Overloaded):
            await embedder.embed(["bridge", "sea"])
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        await embedder.embed(["bridge", "sea"])
        assert np.allclose((await stayer).vectors, await right(["mill"]), atol=1e-6)
    assert server.requests == [["oak"], ["mill"], ["bridge"], ["sea"]]


async def test_an_error_reaches_all_who_wait_and_is_forgotten(server: EmbeddingServer) -> None:
    server.delay_s = 0.1
    server.faults.append(lambda _: refusal(401))
    async with new(server) as embedder:
        errors = await asyncio.gather(*(embedder.embed(["oak"]) for _ in range(5)), return_exceptions=True)
        assert [type(error) for error in errors] == [Unavailable] * 5
        await embedder.embed(["oak"])


async def test_nothing_reaches_the_server_that_it_would_refuse(server: EmbeddingServer) -> None:
    async with new(server) as embedder:
        await embedder.embed(["", " \n", "\0", "\x1b(c@#ff0000)", "lone \ud800 surrogate"])
    assert server.requests == [[".", ".", "lone \ufffd surrogate"]]


def test_tokens_are_estimated_rather_too_many_than_too_few() -> None:
    embedder = HttpEmbedder(url="http://127.0.0.1", model=MODEL, dim=384)
    assert embedder.count_tokens("") == 0
    assert embedder.count_tokens("stone") == 1
    assert embedder.count_tokens("pine trees stand north of the lake") == 9
    assert embedder.count_tokens("東京" * 100) >= 100


async def test_a_failing_server_is_named_until_it_works_again(server: EmbeddingServer) -> None:
    async with new(server, retry_timeout_s=dict.fromkeys(Priority, 0.001)) as embedder:
        assert embedder.failure is None
        for fault in (
            lambda _: refusal(500),
            lambda rows: Response(json.dumps({"data": rows}).replace(str(rows[0]["embedding"][0]), "NaN")),
        ):
            server.faults.append(fault)
            with pytest.raises(Unavailable):
                await embedder.embed(["oak"], Priority.QUERY)
            assert embedder.failure is not None
        await embedder.embed(["oak"], Priority.QUERY)
        assert embedder.failure is None
