"""Verbs that run services: up, gateway, worker, query, mcp.

    commands.py      the verbs and their options; sets up the process and binds the port
    embedded.py      lorestream up: everything in one process
    distributed.py   lorestream gateway, worker, query: one service for each process
    mcp.py           lorestream mcp: the Model Context Protocol over stdin and stdout
    operators.py     the routes for operators, and where their answers come from
    pipeline.py      the state of the way from an event to an answer
    measurements.py  reads the values of this process's own metrics for it
    readiness.py     what /ready of each of them checks

Each opens its parts, builds an application over them, and serves until a signal stops it:

    async with open_gateway(settings) as parts:
        gateway = Gateway.over(parts)
        app = application("gateway", operations(gateway, parts.limits), metrics=parts.metrics, authenticator=parts.authenticator)
        await server.run(app, listener)
"""
