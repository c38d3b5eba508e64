"""Adapters that keep their state in the memory of one process, for the embedded shape and for tests.

    cache            LocalCache, the Cache
    accesses         LocalAccessTimes, the AccessTimes
    watermarks       LocalWatermarks, the WatermarkReader and WatermarkPublisher
    erased_subjects  ErasedSubjects: the part of an ErasureLedger that answers from memory; Kafka and SQLite use it
    known_rewinds    KnownRewinds: the same for a RewindLedger
    known_webhooks   KnownWebhooks: the same for Webhooks

A typical call:

    watermarks = LocalWatermarks()
    await watermarks.publish({0: 42})  # all records of partition 0 below offset 42 are finished
    assert await watermarks.reached({0: 41}, timeout_s=0)
"""
