"""Lorestream: memory for game agents as an event stream. This package contains what all services share.

    events.py         the envelopes: the values of the log, and the memories they become
    memories.py       memories, filters, queries to a store, erasures
    fusion.py         one score from two, by meaning and by words
    identity.py       pseudonyms of players, memory ids, log keys of agents
    plain_text.py     the text of an event without colour codes and control characters
    rewinds.py        rewinds: a game server's world was restored from a backup
    webhooks.py       addresses that get the memories of a tenant as they become findable
    narrate.py        the text of a memory, from the type and data of an event
    tokens.py         write tokens, deletion receipts, page cursors
    retry_headers.py  headers of records that are retried after they became dead letters
    limits.py         what is valid: times, depth, lengths, names, numbers
    errors.py         the exceptions
    supervision.py    background tasks: how they start, stop, and what their failure means
    turns.py          turns for other tasks in long loops
    steady_clock.py   a clock that believes a step ahead only after a while
    os_support.py     what differs between Linux, macOS and Windows
    free_space.py     the free space on the disk, and a floor below which nothing more is written
    tracing.py        traces by OpenTelemetry
    telemetry.py      metrics, and the format of log lines
    audit.py          the audit log
    durable.py        files that survive a power cut, and locks between processes
    ports/            the interfaces to the backends
    adapters/         the implementations of the ports, by backend
    state/            documents, Q-tables and policies: types, keys, limits and checks
    push/             memories go out as they become findable, to streams and to webhooks
    planning/         what a workload needs
    collections/      which collections there are, and which is searched
    access/           API keys and rate limits
    settings/         all settings
    wiring/           from settings to the open parts of a service
    http/             the HTTP interface
    grpc/             the gRPC interface
    admin/            tasks for operators
    cli/              the command line `lorestream`
    client/           clients for Python programs
    integrations/     MCP, LangChain and other frameworks over a client
    langgraph/        LangGraph's long-term store over a client
    compat/           the classes of the design documents over a client

The services are packages of their own: `producers` (gateway), `stream_workers`, `query_service`. A program uses them
through a client:

    with MemoryClient("http://127.0.0.1:8080") as memories:  # lorestream.client
        memories.add("npc:smith", "sold a sword", wait_s=5)
        answer = memories.search("npc:smith", "weapons")
"""

__version__ = "0.1.0"
