"""Runs in the environment of one peer: `python program.py NAME MODEL DIRECTORY [OPTION…]`. It imports nothing of this project.

Each line of stdin is a JSON request, each line of stdout its answer: {"ingest": [{"id", "agent", "text"}, …]} is answered by
{}, {"ask": [{"agent", "text"}, …]} by {"found": [[id, …], …], "ms": [milliseconds, …]}.
"""

# ruff: noqa: PLC0415 (FastAPI reads the types of classes in a function; each environment has only its own peer)

import json
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any

os.environ |= {
    "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "MEM0_TELEMETRY": "False",
    "ANONYMIZED_TELEMETRY": "False", "OPENAI_API_KEY": "unused",
}  # fmt: skip
DIM, K, BATCH = 384, 10, 64


def load_model(path: str) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    return SentenceTransformer(path, device="cpu")


class Chroma:
    """A persistent collection, with the agent as metadata; texts are embedded in batches."""

    def __init__(self, model: str, directory: Path) -> None:
        import chromadb

        self._model = load_model(model)
        self._collection = chromadb.PersistentClient(str(directory)).create_collection(
            "memories", metadata={"hnsw:space": "cosine"}, embedding_function=None
        )

    def ingest(self, events: list[dict[str, str]]) -> None:
        for start in range(0, len(events), BATCH):
            part = events[start : start + BATCH]
            texts = [one["text"] for one in part]
            self._collection.add(
                ids=[one["id"] for one in part],
                embeddings=self._model.encode(texts, batch_size=BATCH, show_progress_bar=False),
                documents=texts,
                metadatas=[{"agent": one["agent"]} for one in part],
            )

    def ask(self, agent: str, text: str) -> list[str]:
        vector = self._model.encode(text, show_progress_bar=False)
        hits = self._collection.query(query_embeddings=[vector], n_results=K, where={"agent": agent})
        return hits["ids"][0]


class Langgraph:
    """The store in memory, with one namespace for each agent; texts are embedded one by one, as `put` does."""

    def __init__(self, model: str, directory: Path) -> None:
        del directory
        from langgraph.store.memory import InMemoryStore

        loaded = load_model(model)

        def embed(texts: list[str]) -> list[list[float]]:
            return loaded.encode(list(texts), show_progress_bar=False).tolist()

        self._store = InMemoryStore(index={"dims": DIM, "embed": embed, "fields": ["text"]})

    def ingest(self, events: list[dict[str, str]]) -> None:
        for one in events:
            self._store.put((one["agent"],), one["id"], {"text": one["text"]})

    def ask(self, agent: str, text: str) -> list[str]:
        return [hit.key for hit in self._store.search((agent,), query=text, limit=K)]


class Mem0:
    """Texts as they are (`infer=False`), in its default store, a local Qdrant."""

    def __init__(self, model: str, directory: Path) -> None:
        from mem0 import Memory

        self._memory = Memory.from_config(
            {
                "embedder": {"provider": "huggingface", "config": {"model": model, "embedding_dims": DIM}},
                "vector_store": {
                    "provider": "qdrant",
                    "config": {"path": f"{directory}/qdrant", "embedding_model_dims": DIM, "on_disk": True},
                },
                "history_db_path": f"{directory}/history.db",
            }
        )
        import torch

        torch.set_num_threads(1)
        self._names: dict[str, str] = {}

    def ingest(self, events: list[dict[str, str]]) -> None:
        for one in events:
            added = self._memory.add(one["text"], agent_id=one["agent"], infer=False)
            self._names[added["results"][0]["id"]] = one["id"]

    def ask(self, agent: str, text: str) -> list[str]:
        hits = self._memory.search(text, filters={"agent_id": agent}, top_k=K)
        return [self._names[hit["id"]] for hit in hits["results"]]


class McpMemoryService:
    """Its default store, SQLite with sqlite-vec, with one partition for each agent; texts are embedded in batches.

    What it has beside that for language models is off: a score of quality, and the refusal of texts that are like others.
    """

    def __init__(self, model: str, directory: Path) -> None:
        import asyncio

        import pysqlite3

        sys.modules["sqlite3"] = pysqlite3  # many interpreters are built without loadable extensions
        os.environ |= {
            "MCP_MEMORY_BASE_DIR": str(directory),
            "MCP_QUALITY_SYSTEM_ENABLED": "false",
            "MCP_SEMANTIC_DEDUP_ENABLED": "false",
        }
        from mcp_memory_service.storage.sqlite_vec import SqliteVecMemoryStorage

        self._run = asyncio.new_event_loop().run_until_complete
        self._storage = SqliteVecMemoryStorage(f"{directory}/memories.db", embedding_model=model)
        self._run(self._storage.initialize())
        import torch

        torch.set_num_threads(1)

    def ingest(self, events: list[dict[str, str]]) -> None:
        from mcp_memory_service.models.memory import Memory

        agents: dict[str, list[Any]] = {}
        for one in events:
            memory = Memory(one["text"], one["id"], metadata={"name": one["id"]})
            agents.setdefault(one["agent"], []).append(memory)
        for agent, memories in agents.items():
            for start in range(0, len(memories), BATCH):
                done = self._run(self._storage.store_batch(memories[start : start + BATCH], store=agent))
                assert all(stored for stored, _ in done), done

    def ask(self, agent: str, text: str) -> list[str]:
        hits = self._run(self._storage.retrieve(text, n_results=K, store=agent))
        return [hit.memory.metadata["name"] for hit in hits]


def service(model_path: str, directory: Path, qdrant_url: str, grpc_port: str, redis_url: str = "") -> None:
    """The straightforward service, as its users would write it: one event after the other is embedded and stored.

    With `redis_url`, answers are kept there for a minute.
    """
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel
    from qdrant_client import QdrantClient, models
    from redis import Redis

    del directory
    model = load_model(model_path)
    qdrant = QdrantClient(
        url=qdrant_url, grpc_port=int(grpc_port), prefer_grpc=True, check_compatibility=False
    )
    name = f"peer-{uuid.uuid4()}"
    qdrant.create_collection(
        name, vectors_config={"text": models.VectorParams(size=DIM, distance=models.Distance.COSINE)}
    )
    qdrant.create_payload_index(name, "agent", models.KeywordIndexParams(type="keyword", is_tenant=True))
    redis = Redis.from_url(redis_url) if redis_url else None
    app = FastAPI()

    class Event(BaseModel):
        id: str
        agent: str
        text: str

    class Question(BaseModel):
        agent: str
        text: str

    @app.post("/events")
    def take(events: list[Event]) -> dict[str, int]:
        for event in events:
            vector = model.encode(event.text, show_progress_bar=False).tolist()
            payload = {"agent": event.agent, "text": event.text, "name": event.id}
            point = models.PointStruct(id=str(uuid.uuid4()), vector={"text": vector}, payload=payload)
            qdrant.upsert(name, points=[point], wait=True)
        return {"accepted": len(events)}

    @app.post("/search")
    def search(question: Question) -> list[dict[str, Any]]:
        key = f"{name}:{question.agent}:{question.text}"
        if redis is not None and (kept := redis.get(key)):
            return json.loads(kept)
        vector = model.encode(question.text, show_progress_bar=False).tolist()
        mine = models.Filter(
            must=[models.FieldCondition(key="agent", match=models.MatchValue(value=question.agent))]
        )
        hits = qdrant.query_points(name, query=vector, using="text", query_filter=mine, limit=K).points
        answer = [
            {"id": hit.payload["name"], "text": hit.payload["text"], "score": hit.score} for hit in hits
        ]
        if redis is not None:
            redis.set(key, json.dumps(answer), ex=60)
        return answer

    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")


PEERS = {
    "chroma": Chroma, "langgraph": Langgraph, "mem0": Mem0, "mcp-memory-service": McpMemoryService,
}  # fmt: skip


def main() -> None:
    name, model, directory, *options = sys.argv[1:]
    if name == "service":
        service(model, Path(directory), *options)
        return
    answers, sys.stdout = sys.stdout, sys.stderr  # the libraries may print
    peer = PEERS[name](model, Path(directory))
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "ingest" in request:
            peer.ingest(request["ingest"])
            print("{}", file=answers, flush=True)
            continue
        found, took = [], []
        for one in request["ask"]:
            began = time.perf_counter()
            found.append(peer.ask(one["agent"], one["text"]))
            took.append(1000 * (time.perf_counter() - began))
        print(json.dumps({"found": found, "ms": took}), file=answers, flush=True)


if __name__ == "__main__":
    main()
