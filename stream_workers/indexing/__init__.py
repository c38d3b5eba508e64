"""Indexing: batches of records from the log into one collection.

    indexer.py              Indexer: the loop; reads batches, calls the steps below, waits out outages
    pipeline.py             what is done with a batch: prepare, apply, finish
    insertion.py            inserts memories, without those that the store refuses
    stored_vectors.py       vectors of texts that the collection holds already
    vectors.py              the vectors of its memories: reused or computed, with pauses in the background (Throttle)
    cache_invalidation.py   InvalidationQueue: a batch is finished only after the cache was invalidated
    checkpoint.py           Checkpoint: offsets, membership, published and committed watermarks
    lag.py                  the lag gauges, set at intervals, in an outage too
    failures.py             what a failed step leads to: RetryUntilAvailable in an outage, DeadLetterPolicy for a record
    stall_detector.py       ends an indexer that hangs without an error

The steps of a batch:

    1. Indexer._read                  member.read; checkpoint.offsets.track(records)
    2. Pipeline.prepare               decode, narrate, vectors.embed; up to two batches ahead of step 3
    3. Indexer._apply                 Pipeline.apply: erase, insert, put tombstones, fold state events; dead letters for
                                      what fails
    4. InvalidationQueue.add          cache.invalidate(the batch's agents); during its outage at most 65 s later:
    5. Indexer._finish                Pipeline.finish (erasures done), Checkpoint.finish (raise and publish watermarks)
    6. Checkpoint.run                 at intervals: flush the store, commit the watermarks

A typical call:

    pipeline = Pipeline(store, embedder, ledger, SystemClock(), metrics, folder)
    indexer = Indexer(log, pipeline, publisher, cache=cache, group="indexer")
    await indexer.run(burst=True)  # until the log is drained; without burst until indexer.stop()
    assert await log.committed("indexer") == await log.end()
"""
