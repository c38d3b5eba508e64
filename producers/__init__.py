"""The producers' side: the gateway in front of the log, and programs that send events to it.

    gateway          accepts events: HTTP routes
    intake           what all writes pass: rate limits, the append and its metrics, the wait
    admission        splits a batch, validates each event, makes its envelope
    log_writer       times of acceptance, and appends to the log
    records          the known types of events: which are records, and the fields that they may have
    corrections      the route that replaces one memory by another
    erasures         deletions of a memory, an agent, a player, and their HTTP routes
    rewinds          rewinds of a server and their undoing, and their HTTP routes
    state/           writes of documents, Q-tables and policies
    webhooks         webhooks: made, listed, removed, resumed and tried out
    schemas          the msgspec types of the routes
    webhook_schemas  those of the routes of webhooks
    examples         example requests and responses for the documentation
    rpc              the gateway's gRPC calls
    tail             streams memories as they become findable
    simulator/       simulated game servers, for load and fault tests
    demo/            the events of `lorestream demo`
    luanti/          the Luanti mod (Lua)

A gateway, and one write:

    gateway = Gateway.over(parts)
    app = application("gateway", operations(gateway, limits), metrics=parts.metrics)

    ingested = await gateway.ingest("default", "survival-1", [b'{"agent_id": "npc:smith", "text": "it rains"}'])
    await gateway.intake.wait_until_processed(ingested.positions, timeout_s=5)
"""
