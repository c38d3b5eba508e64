"""The event log and the erasure ledger of the embedded shape, in one SQLite file.

    database.py        the file: lock, writing thread, reading thread, transactions
    migrations.py      its schema, as ordered migrations
    log.py             EventLog: appends, consumer groups, dead letters, retention
    subscription.py    Subscription: the reads of a consumer group; LogReader: reads outside of one
    group_commit.py    the transactions in which appends and commits are written
    segments.py        the SQL statements of the log and its dead letters
    erasure_ledger.py  ErasureLedger: erased subjects and the states of erasures
    rewind_ledger.py   RewindLedger: the rewinds of servers
    webhooks.py        Webhooks: which there are, and how far each has come
    pinned_copy.py     a copy of the file while it is written to, for snapshots
    ledger_merge.py    deletions, erasures and rewinds of another file, applied after a restore

An append and a read:

    async with Database.open(path) as database:
        ledger = await SqliteErasureLedger.open(database, clock=clock)
        async with SqliteLog.open(database, retention_s=30 * 86_400, max_bytes=0, clock=clock) as log:
            offsets = await log.append([NewRecord(key, value, headers)])  # durable when it returns
            async with log.subscribe("indexer", listener) as subscription:
                records = await subscription.read(limit=256, max_bytes=2**20, wait_s=1.0)
                await subscription.commit({0: records[-1].offset + 1})
"""
