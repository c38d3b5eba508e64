"""The event log, the erasure ledger and the watermarks in Kafka, through aiokafka.

    log                  KafkaLog, the EventLog: a topic of events and a topic of dead letters
    appender             durable appends to one topic, batched per partition
    producer             one aiokafka producer, replaced when it fails
    subscription         a member of a consumer group: polling, rebalances, commits
    reader               reads outside of any group, for streams of memories
    buffers              records that a subscription has read ahead
    consumer             one aiokafka consumer: configuration, rebalance callbacks, record conversion
    consumer_health      notices a stuck consumer, and two members of the same name
    offsets              ends, beginnings, times and committed offsets, without being a member
    dead_letter_records  encoding and reading of the dead letter topic
    erasure_ledger       KafkaErasureLedger: a compacted topic, followed in memory
    rewind_ledger        KafkaRewinds, a part of it: the rewinds of servers, in the same topic
    erasure_entry        the records of the erasures topic
    webhooks             KafkaWebhooks: the records of webhooks in the erasures topic
    watermarks           KafkaWatermarks: the committed offsets of a group
    topics               creates the topics and checks their settings
    connection           addresses, credentials, translation of errors

An append passes log, appender, producer; a read passes log, subscription, buffers, consumer.

    connection = KafkaConnection("kafka:9092")
    async with KafkaLog.open(
        connection, topic="lorestream.events", dlq_topic="lorestream.events.dlq", retention_s=30 * 86_400, clock=clock
    ) as log:
        offsets = await log.append([NewRecord(key, value, headers)])  # durable: {partition: highest offset}
        async with log.subscribe("indexer", listener) as subscription:
            records = await subscription.read(limit=256, max_bytes=2**20, wait_s=0.5)
            ...  # process them
            await subscription.commit({records[-1].partition: records[-1].offset + 1})

Timeouts, from the shortest to the longest, in seconds. Each must be shorter than the one that contains it.

    CALL_TIMEOUT_S     1.7  one call to the brokers: append, commit, offsets. An HTTP caller is answered within 2.
    LEDGER_TIMEOUT_S   1.8  one call of the ledger: appends or looks up the end, and waits until it has read that far
    WRITE_TIMEOUT_S    1.9  producers: an append and a call of the ledger. CHECK_TIMEOUT_S of /ready is as long
    REVOKE_TIMEOUT_S   7.5  stream_workers, in `RebalanceListener.revoked`: at most 5 for batches in progress, the rest
                            for their commit (`stream_workers/indexing/checkpoint.py`)
    revoke_timeout_s   8    `RebalanceListener.revoked` as a whole; at most 0.8 of the session timeout
                            (`ConsumerConfig.revoke_deadline_s`), so that the member joins again in time
    CONNECT_TIMEOUT_S  10   a new client connects
    ACK_TIMEOUT_S      15   a batch stays unacknowledged until its producer is replaced; the calls that wait for it
                            have failed after CALL_TIMEOUT_S
    session_timeout_s  30   no heartbeat: the group gives the partitions to others. Also the rebalance timeout: how
                            long the broker waits for all members to join again
    stuck_after_s      30   records wait at the broker and none arrives: the consumer is replaced

Only `session_timeout_s` is a setting. Below 10 s it also shortens the revocation: the drain is then cancelled early,
and the next owner repeats the work.
"""
