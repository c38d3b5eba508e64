"""Runs in the environment of one peer: `python peer.py NAME DIRECTORY`. It imports nothing of this project.

The directory has `task.json` and `vectors.npy` (one row for each memory, then one for each question). The answers go
to `found.json`: for each question the ids, the best first.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

os.environ |= {"MEM0_TELEMETRY": "False", "ANONYMIZED_TELEMETRY": "False", "OPENAI_API_KEY": "unused"}


def bm25s(task: dict[str, Any], vectors: np.ndarray) -> list[list[str]]:
    """BM25 alone, one index for each agent, with English stop words and stemmer."""
    import bm25s as library  # noqa: PLC0415
    import Stemmer  # noqa: PLC0415

    stemmer = Stemmer.Stemmer("english")
    indexes: dict[str, Any] = {}
    for agent in {one["agent"] for one in task["memories"]}:
        memories = [one for one in task["memories"] if one["agent"] == agent]
        index = library.BM25()
        texts = [one["text"] for one in memories]
        index.index(
            library.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False
        )
        indexes[agent] = index, [one["id"] for one in memories]
    found = []
    for one in task["questions"]:
        index, ids = indexes[one["agent"]]
        words = library.tokenize([one["text"]], stopwords="en", stemmer=stemmer, show_progress=False)
        rows, scores = index.retrieve(words, k=min(task["k"], len(ids)), show_progress=False)
        found.append([ids[row] for row, score in zip(rows[0], scores[0], strict=True) if score > 0])
    return found


def chroma(task: dict[str, Any], vectors: np.ndarray) -> list[list[str]]:
    """One collection, with the agent as metadata."""
    import chromadb  # noqa: PLC0415

    client = chromadb.EphemeralClient()
    collection = client.create_collection(
        "memories", metadata={"hnsw:space": "cosine"}, embedding_function=None
    )
    memories = task["memories"]
    for start in range(0, len(memories), 1000):
        part = memories[start : start + 1000]
        collection.add(
            ids=[one["id"] for one in part],
            embeddings=vectors[start : start + len(part)],
            documents=[one["text"] for one in part],
            metadatas=[{"agent": one["agent"]} for one in part],
        )
    found = []
    for one, vector in zip(task["questions"], vectors[len(memories) :], strict=True):
        hits = collection.query(query_embeddings=[vector], n_results=task["k"], where={"agent": one["agent"]})
        found.append(hits["ids"][0])
    return found


def langgraph(task: dict[str, Any], vectors: np.ndarray) -> list[list[str]]:
    """The in-memory store, with one namespace for each agent."""
    from langgraph.store.memory import InMemoryStore  # noqa: PLC0415

    table = _by_text(task, vectors)
    store = InMemoryStore(
        index={
            "dims": vectors.shape[1],
            "embed": lambda texts: [table[text] for text in texts],
            "fields": ["text"],
        }
    )
    for one in task["memories"]:
        store.put((one["agent"],), one["id"], {"text": one["text"]})
    return [
        [hit.key for hit in store.search((one["agent"],), query=one["text"], limit=task["k"])]
        for one in task["questions"]
    ]


def mem0(task: dict[str, Any], vectors: np.ndarray) -> list[list[str]]:
    """Texts as they are (`infer=False`), in a local Qdrant. Its keyword half needs files of a hub, and is off."""
    from mem0 import Memory  # noqa: PLC0415

    table = _by_text(task, vectors)

    class Embedder:
        def embed(self, text: str, *_: object, **__: object) -> list[float]:
            return table[text]

        def embed_batch(self, texts: list[str], *_: object, **__: object) -> list[list[float]]:
            return [table[text] for text in texts]

    directory = sys.argv[2]
    place = {"path": f"{directory}/qdrant", "embedding_model_dims": vectors.shape[1], "on_disk": True}
    memory = Memory.from_config(
        {
            "vector_store": {"provider": "qdrant", "config": place},
            "history_db_path": f"{directory}/history.db",
        }
    )
    memory.embedding_model = Embedder()
    names: dict[str, str] = {}
    for one in task["memories"]:
        added = memory.add(one["text"], agent_id=one["agent"], infer=False)
        names[added["results"][0]["id"]] = one["id"]
    found = []
    for one in task["questions"]:
        hits = memory.search(one["text"], filters={"agent_id": one["agent"]}, top_k=task["k"])
        found.append([names[hit["id"]] for hit in hits["results"]])
    return found


def _by_text(task: dict[str, Any], vectors: np.ndarray) -> dict[str, list[float]]:
    texts = [one["text"] for one in (*task["memories"], *task["questions"])]
    table = dict(zip(texts, vectors.tolist(), strict=True))
    return {text.strip(): vector for text, vector in table.items()} | table  # mem0 strips a query


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    asked = json.loads((folder / "task.json").read_bytes())
    answers = globals()[sys.argv[1]](asked, np.load(folder / "vectors.npy"))
    (folder / "found.json").write_text(json.dumps(answers))
