"""A corpus in a running Lorestream: events through the gateway, log and worker into Qdrant Edge, questions by HTTP."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from lorestream.http.application import application
from lorestream.ports import Role
from lorestream.wiring import Runtime
from producers import gateway
from stream_workers.indexing.indexer import Indexer
from stream_workers.indexing.pipeline import Pipeline
from tests.models import models_dir
from tests.parts import folder_over, open_parts
from tests.retrieval.bench.cached_embedder import CachedEmbedder, vector_file
from tests.retrieval.bench.corpus import Corpus, Event, Question
from tests.retrieval.bench.metrics import DEPTH
from tests.retrieval.reader import Reader, over

_BATCH_EVENTS = 500
_BATCH_CHARACTERS = 400_000
_SERVER = "bench"


@dataclass
class World:
    """`ids`: event id -> memory id."""

    reader: Reader
    embedder: CachedEmbedder
    ids: Mapping[str, str]

    async def ask(self, question: Question, options: Mapping[str, Any], *, k: int = DEPTH) -> list[str]:
        """The ids of the memories found, the best first."""
        body = {"agent_id": question.agent_id, "k": k, **question.where, **options}
        return [one["id"] for one in (await self.reader.search(question.query, **body))["memories"]]

    def gold(self, question: Question) -> list[str]:
        """The ids of the memories that answer the question."""
        return [self.ids[one] for one in question.gold]


@contextlib.asynccontextmanager
async def remembered(
    corpus: Corpus, *, cache: Path, settings: Mapping[str, Any] | None = None
) -> AsyncIterator[World]:
    """A Lorestream that has indexed the corpus. `cache`: directory of the vectors; `settings`: as of `load_settings`."""
    chosen = {"embedder": {"kind": "openvino"}, "models_dir": models_dir()} | dict(settings or {})
    with tempfile.TemporaryDirectory(prefix="lorestream-bench-") as data, vector_file(cache) as vectors:
        async with open_parts(Path(data), **chosen) as runtime:
            embedder = CachedEmbedder(runtime.embedder, vectors)
            ids = await _accept(runtime, corpus.events)
            pipeline = Pipeline(
                runtime.store, embedder, runtime.ledger, runtime.clock, runtime.metrics, folder_over(runtime)
            )
            await Indexer(
                runtime.log, pipeline, runtime.collections.current.publisher, cache=runtime.cache
            ).run(burst=True)
            # Not at the first question: the time limit of a search does not fit a model that others use as well.
            await embedder.embed([one.query for one in corpus.questions], role=Role.QUERY)
            async with over(runtime, embedder=embedder, cache=None) as reader:
                reader.clock.time = corpus.end + 60
                yield World(reader, embedder, ids)


async def _accept(runtime: Runtime, events: Sequence[Event]) -> dict[str, str]:
    """Send the events to a gateway; return event id -> memory id."""
    app = application("gateway", gateway.operations(gateway.Gateway.over(runtime)), metrics=runtime.metrics)
    ids: dict[str, str] = {}
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app), base_url="http://gateway"
    ) as client:
        for batch in _batches(events):
            body = {"server": _SERVER, "events": [{"ttl": 0, **event} for event in batch]}
            answer = await client.post("/v1/events", json=body)
            assert answer.status_code == 202, answer.text
            assert answer.json()["rejected"] == []
            ids.update(zip((event["id"] for event in batch), answer.json()["ids"], strict=True))
    return ids


def _batches(events: Sequence[Event]) -> list[list[Event]]:
    batches: list[list[Event]] = [[]]
    size = 0
    for event in events:
        length = len(event.get("text") or "") + 500
        if len(batches[-1]) == _BATCH_EVENTS or size + length > _BATCH_CHARACTERS:
            batches.append([])
            size = 0
        batches[-1].append(event)
        size += length
    return batches
