"""The corrections of a log: live, replayed, and as a plain model says, after any puts, removals, rewinds and undoings."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lorestream import events
from lorestream.adapters.qdrant.edge.store import EdgeStore
from lorestream.memories import PageQuery, Scope
from lorestream.ports import VectorStore
from lorestream.rewinds import Rewind
from stream_workers.indexing.pipeline import Pipeline
from tests.parts import open_parts, pipeline_over, records

IDS = ["m0", "m1", "m2", "m3", "m4"]
AGENTS = ["a", "b"]
PLAYERS = ["k1:" + letter * 64 for letter in "ab"]
EXPIRY, LATER = 5_000.0, 6_000.0
"""Some memories expire at EXPIRY; live processing is before it, a replay after it."""

ids, agents = st.sampled_from(IDS), st.sampled_from(AGENTS)
player = st.sampled_from([None, *PLAYERS])
deletion = st.tuples(st.just("delete"), ids, agents)
erasure = st.tuples(st.just("erase"), st.one_of(agents, st.sampled_from(PLAYERS)))
rewind = st.tuples(st.just("rewind"), st.integers(1, 6))
undoing = st.tuples(st.just("undo"), st.integers(0, 3))
put = st.tuples(st.just("put"), ids, agents, st.one_of(st.none(), ids), player, st.booleans())
_examples = itertools.count()

UNDONE = [("undo", 0)]
AGAIN = [
    *(("put", name, "a", None, None, False) for name in ("m0", "m1")),
    ("put", "m2", "a", "m0", None, False),
    ("put", "m3", "a", "m1", None, True),
    ("rewind", 3),
    ("put", "m2", "a", None, None, False),
    ("put", "m3", "a", "m1", None, True),
]
"""Two ids are given again after a rewind: one without the correction that it was before, one that expires with it."""


@dataclasses.dataclass
class Clock:
    """A clock that the test sets."""

    time: float = 0.0

    def now(self) -> float:
        return self.time


def envelopes(tenant: str, steps: Sequence[tuple[Any, ...]]) -> list[events.Envelope]:
    """The log's envelopes. The puts of an id have the same player and expiry; those of one that expires, the same target.

    Whether an id makes a memory again once its first has expired or was erased is not promised.
    """
    found: list[events.Envelope] = []
    fixed: dict[tuple[str, str], tuple[str | None, str | None, bool]] = {}
    rewinds: list[events.RewindWrite] = []
    for at, (op, *arguments) in enumerate(steps, start=1):
        match op:
            case "put":
                name, agent, old, named, expires = arguments
                first, named, expires = fixed.setdefault((agent, name), (old, named, expires))
                old = first if expires else old
                one = events.Put(
                    tenant=tenant,
                    agent_id=agent,
                    memory_id=name,
                    server="s",
                    timestamp=float(at),
                    accepted_at=float(at),
                    text=f"{name} at {at}",
                    player=named,
                    about=tuple(PLAYERS[: at % 3]),
                    supersedes=None if old == name else old,
                    expires_at=EXPIRY if expires else None,
                )
                found.append(one)
            case "delete":
                found.append(events.Delete(tenant, arguments[1], arguments[0], float(at)))
            case "rewind":
                [steps_back] = arguments
                rewinds.append(
                    events.RewindWrite(tenant, f"{tenant}-{at}", "s", float(at - steps_back), float(at))
                )
                found.append(rewinds[-1])
            case "undo":
                if rewinds:
                    chosen = rewinds[arguments[0] % len(rewinds)]
                    found.append(msgspec.structs.replace(chosen, undone_at=float(at)))
            case _:
                [subject] = arguments
                kind = "agent" if subject in AGENTS else "player"
                found.append(events.Erase(tenant, f"{tenant}-{at}", kind, (subject,), float(at)))
    return found


Stored = dict[tuple[str, str], tuple[str, set[str], tuple[str, ...], bool]]
"""(agent, id) -> text, ids of what names it as superseded, whom it is about, whether reads show it."""


def model(log: Sequence[events.Envelope]) -> Stored:
    """What is stored in the end."""
    erasures = [one.erasure() for one in log if isinstance(one, events.Erase)]
    deleted = {(one.agent_id, one.memory_id) for one in log if isinstance(one, events.Delete)}
    rewinds: dict[str, Rewind] = {}
    for one in log:
        if isinstance(one, events.RewindWrite):
            rewinds[one.rewind_id] = one.rewind()

    def is_hidden(put: events.Put, at: float) -> bool:
        return any(
            one.to < put.accepted_at <= one.accepted_at <= at
            and (one.undone_at is None or at < one.undone_at)
            for one in rewinds.values()
        )

    first: dict[tuple[str, str], events.Put] = {}
    for one in log:
        if not isinstance(one, events.Put) or (one.agent_id, one.memory_id) in deleted:
            continue
        if not any(erasure.covers(one.memory("")) for erasure in erasures):
            before = first.setdefault((one.agent_id, one.memory_id), one)
            if is_hidden(before, one.accepted_at):
                first[one.agent_id, one.memory_id] = one
    stored: Stored = {}
    for (agent, name), put in first.items():
        by = {other: new for (whose, other), new in first.items() if (whose, new.supersedes) == (agent, name)}
        replaced = any(
            (put.supersedes is None or new.accepted_at > put.accepted_at) and not is_hidden(new, math.inf)
            for new in by.values()
        )
        gone = {
            subject
            for erasure in erasures
            for subject in erasure.subjects
            if erasure.accepted_at >= put.accepted_at
        }
        about = tuple(one for one in put.about if one not in gone)
        if put.expires_at is None and not is_hidden(put, math.inf):
            stored[agent, name] = (put.text or "", set(by), about, not replaced)
    return stored


async def process(pipeline: Pipeline, log: Sequence[events.Envelope], rng: random.Random) -> None:
    """Process the log in batches of any size."""
    start = 0
    while start < len(log):
        end = start + rng.randint(1, 5)
        await pipeline.apply(await pipeline.prepare(records(*log[start:end])))
        start = end


async def sweep(store: VectorStore) -> None:
    await store.sweep(expired_before=LATER, tombstones_before=0.0, limit=1000)


async def content(store: VectorStore, tenant: str) -> Stored:
    """What is stored, as `model` says it."""
    found = await store.page(PageQuery(Scope(tenant, superseded=True), 1000, LATER))
    shown = {(one.agent_id, one.id) for one in await store.page(PageQuery(Scope(tenant), 1000, LATER))}
    return {
        (one.agent_id, one.id): (
            one.text,
            {by.id for by in one.superseded_by},
            one.about,
            (one.agent_id, one.id) in shown,
        )
        for one in found
    }


async def compare(
    live: Pipeline, replay: Pipeline, steps: Sequence[Any], more: Sequence[Any], seed: int
) -> None:
    tenant, rng = f"t{next(_examples)}", random.Random(seed)
    log = envelopes(tenant, [*steps, *more])
    expected = model(log)
    await process(live, log[: len(steps)], rng)
    await sweep(live.store)
    await process(live, log[len(steps) :], rng)
    assert await content(live.store, tenant) == expected
    await process(replay, log, rng)
    await sweep(replay.store)
    assert await content(replay.store, tenant) == expected


def test_live_and_replay_agree_with_a_plain_model(tmp_path: Path) -> None:
    """Live, the expired memories are swept in between; in the replay they have expired before."""
    with asyncio.Runner() as runner, contextlib.ExitStack() as closing:

        async def opened() -> tuple[Pipeline, Pipeline, contextlib.AsyncExitStack]:
            stack = contextlib.AsyncExitStack()
            runtime = await stack.enter_async_context(open_parts(tmp_path))
            store = await stack.enter_async_context(
                EdgeStore.open(None, model_id="hash", dim=runtime.embedder.dim)
            )
            live = dataclasses.replace(pipeline_over(runtime), clock=Clock(0.0))
            return live, dataclasses.replace(pipeline_over(runtime, store), clock=Clock(LATER)), stack

        live, replay, stack = runner.run(opened())
        closing.callback(lambda: runner.run(stack.aclose()))

        @example(AGAIN, [], 0)
        @example(AGAIN, UNDONE, 0)
        @example([*AGAIN, *UNDONE], [], 0)
        @given(
            st.lists(st.one_of(put, put, put, rewind, undoing, deletion, erasure), max_size=12),
            st.lists(st.one_of(rewind, undoing, deletion, erasure), max_size=4),
            st.integers(0, 2**32),
        )
        @settings(max_examples=15, deadline=None)
        def agree(steps: list[Any], more: list[Any], seed: int) -> None:
            runner.run(compare(live, replay, steps, more, seed))

        agree()
