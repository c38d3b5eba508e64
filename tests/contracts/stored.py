"""Helpers of the store contracts: memories, inserts, queries."""

import numpy as np

from lorestream.memories import EVERYTHING, Memory, PageQuery, Scope, VectorQuery

START = 1_700_000_000.0
NOW = 1_800_000_000.0
EAST = (1.0, 0.0, 0.0, 0.0)


def memory(name="m", **fields):
    """A memory of agent a; its time and acceptance are START unless given."""
    defaults = {"tenant": "default", "agent_id": "a", "text": f"text of {name}", "timestamp": START}
    return Memory(**{"id": name, "accepted_at": START, **defaults, **fields})


async def put(store, *memories, vector=EAST):
    """Insert memories that all have one vector."""
    await store.insert(memories, vectors(vector, len(memories)))


def vectors(vector, count):
    return np.tile(np.array(vector, np.float32), (count, 1))


def everything(
    agent="a", tenant="default", *, filter_=EVERYTHING, limit=1000, now=NOW, superseded=False, **fields
):
    agents = None if agent is None else (agent,)
    return PageQuery(Scope(tenant, agents, superseded=superseded), limit, now, filter_, **fields)


def nearest(k, *, agent="a", tenant="default", vector=EAST, now=NOW, scope=None, **fields):
    agents = None if agent is None else (agent,)
    return VectorQuery(scope or Scope(tenant, agents), vector, k, now, **fields)


async def names(store, agent="a", tenant="default", **fields):
    """The ids of a page; asserts that count, search, get and agents agree with it."""
    query = everything(agent, tenant, **fields)
    shown = await store.page(query)
    assert await store.count(query) == len(shown)
    hits = await store.search(nearest(1000, scope=query.scope, now=query.now, filter=query.filter))
    assert sorted(hit.memory.id for hit in hits) == sorted(one.id for one in shown)
    for one in shown:
        assert await store.get(tenant, one.agent_id, one.id, now=query.now) == one
    if query.filter == EVERYTHING:
        counted = await store.agents(query.scope, limit=1000, now=query.now)
        assert sum(count for _, count in counted) == len(shown)
    return [one.id for one in shown]
