"""The stream workers: from the event log to findable memories.

worker.py            Worker: one CollectionIndexer per listed collection, started and stopped as the list changes
collection_feed.py   CollectionIndexer: indexer and sweeper of one collection
sweeper.py           removes expired memories, old tombstones, memories beyond an agent's limit, old log records
store_gauges.py      the size of the active collection, as metrics
time_check.py        whether the clock can be believed when something is removed for its age
faust_app.py         the Faust app: the process around the worker in the distributed shape
indexing/            the steps of a batch: read, prepare, apply, invalidate caches, finish, commit
folding/             the state events of a batch into rows: documents, Q-tables, policies
rebuild/             another collection: replay, quality gate, alias swap, compaction

async with open_worker(load_settings()) as parts:  # embedded: the Runtime of open_runtime
    worker = Worker(parts)
    running = supervision.start_shared(worker.run(), "worker")
    ...
    if worker.indexer.problem is not None:
        print("waiting for", worker.indexer.problem)
    worker.stop()
    await running
"""
