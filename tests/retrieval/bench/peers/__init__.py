"""Other memories and indexes in the same table, each in an environment of its own.

They get the texts as Lorestream has stored them, and the same vectors, so that only the search is compared. Questions
with a filter or a position are left out for all.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lorestream.memories import PageQuery, Scope
from lorestream.ports import Role
from tests.peers.environments import python_of
from tests.retrieval.bench.corpus import Question
from tests.retrieval.bench.metrics import DEPTH
from tests.retrieval.bench.world import World

PEERS: Mapping[str, Sequence[str]] = {
    "bm25s": ("bm25s==0.3.16", "PyStemmer==3.1.0", "numpy==2.4.6"),
    "chroma": ("chromadb==1.5.9",),
    "langgraph": ("langgraph-checkpoint==4.3.2", "numpy==2.4.6"),
    "mem0": ("mem0ai==2.2.1",),
}
"""By name: what is installed for it."""
_SCRIPT = Path(__file__).parent / "peer.py"
_TIMEOUT_S = 3600.0
_EVERYTHING = 1_000_000


async def ask_peer(name: str, world: World, questions: Sequence[Question], *, cache: Path) -> list[list[str]]:
    """The ids of the memories that the peer finds for each question. Its environment is made on first use."""
    python = await _environment(name, cache)
    runtime = world.reader.runtime
    agents = tuple(dict.fromkeys(one.agent_id for one in questions))
    query = PageQuery(Scope("default", agents), _EVERYTHING, world.reader.clock.now())
    memories = await runtime.store.page(query)
    stored = (await world.embedder.embed([one.text for one in memories])).vectors
    asked = (await world.embedder.embed([one.query for one in questions], role=Role.QUERY)).vectors
    with tempfile.TemporaryDirectory(prefix="lorestream-peer-") as folder:
        directory = Path(folder)
        np.save(directory / "vectors.npy", np.concatenate([stored, asked]))
        task = {
            "k": DEPTH,
            "memories": [{"id": one.id, "agent": one.agent_id, "text": one.text} for one in memories],
            "questions": [{"agent": one.agent_id, "text": one.query} for one in questions],
        }
        (directory / "task.json").write_text(json.dumps(task))
        await _run(str(python), str(_SCRIPT), name, folder)
        return json.loads((directory / "found.json").read_bytes())


async def _environment(name: str, cache: Path) -> Path:
    try:
        return await asyncio.to_thread(python_of, name, PEERS[name], cache / "peers")
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{error}: leave this peer out with --peers") from error


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stdout=sys.stderr)
    async with asyncio.timeout(_TIMEOUT_S):
        code = await process.wait()
    if code:
        raise RuntimeError(f"{' '.join(command)} ended with {code}: leave this peer out with --peers")
