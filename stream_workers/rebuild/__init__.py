"""Rebuilding: another collection from the log, and the switch to it.

    replay.py         Replay: the admin task; creates a collection, waits for the workers, evaluates the result
    carry_over.py     CarryOver: copies what is older than the log, and all tombstones
    quality_gate.py   evaluate: is the new collection as good as the active one? records_behind
    alias_swap.py     AliasTasks: list, swap, rollback, drop; switch_alias, drop_collection, collect_garbage
    compaction.py     Compaction: a rebuild that gives back disk space, in the embedded shape

The workers index into the new collection as soon as it is listed; nothing in this package writes what the log holds.

    replay = Replay(parts)
    async for report in replay.run(ReplayArguments(to="next", model="all-MiniLM-L12-v2")):
        ...  # Progress and Remark; at the end an Outcome with "gate": "passed" or "failed"
    collections = {one.name: one for one in await parts.collections.refresh()}
    target = await parts.collections.ensure_open(collections["next"])
    missing = await switch_alias(parts, target)  # 0: "next" is searched from now on
"""
