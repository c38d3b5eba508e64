"""Push: memories go out as they become findable, to streams and to webhooks.

    selection.py  Selection: which memories a receiver wants
    findable.py   from records of the log to the memories that they have become
    feed.py       Feed: reads the log once per process, for all of its receivers
    delivery.py   Delivery: sends what a stream brings to one webhook
    senders.py    Senders: the webhooks of a process
    stream.py     MemoryStream: one receiver; reads its past from the log by itself, then joins the feed

A receiver's place is a position for each partition of the log. Every process of a deployment can go on from it.

    async with Feed.open(log, watermarks, findable) as feed:
        stream = await MemoryStream.open(feed, Selection(tenant="default"))
        async for items in stream.items():  # each: partition, the next offset, and a memory
            ...
"""
