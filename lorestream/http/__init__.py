"""The HTTP interface that all services share.

    request           ApiRequest and ApiResponse: body limits, decompression, JSON decoding and encoding
    errors            the JSON types of errors, and the response for each exception
    operation         Operation: what describes a route, for routing and for the documentation
    application       the ASGI application: authentication, dispatch, errors, metrics, /health, /ready, /metrics
    readiness         ReadinessChecks: what /ready answers and the gauge of it in /metrics
    openapi           /openapi.json, generated from the operations
    docs_page         /docs, the same document for people
    status_page       the page at /
    console           the files of the pages at /console
    templating        renders the pages from templates/ (Jinja2)
    local_only        refuses web pages of other origins where callers need no key
    admin_routes      the admin tasks as routes
    mcp_route         POST /mcp: the Model Context Protocol
    operator_routes   what operators read: pipeline, settings, keys, audit, tasks
    operator_schemas  the types of their answers
    other_service     the routes of the other service of a distributed deployment
    streaming         responses of lines that last, and end when their client leaves or the service stops
    disconnect        ends the work for a request whose client has closed the connection
    protocol          uvicorn's protocol with limits on header sizes and on slow clients, and with joined writes
    connections       the table of open connections: their limit, and the pace that clients must keep
    server            runs a process: serves beside background work, stops in order

A service with one route:

    async def echo(request: ApiRequest) -> ApiResponse:
        return json_response(await request.json(EchoBody))

    echoes = Operation("POST", "/v1/echo", echo, "Echo", KeyScope.QUERY, EchoBody, body=EchoBody)
    app = application("echo", [echoes], metrics=metrics, authenticator=authenticator)
    server.main(server.run(app, listener))
"""
