"""Lorestream over the Model Context Protocol. Needs the extra `mcp`: `pip install '.[mcp]'`.

    server      the MCP server: tools, resources, errors, over a client of Lorestream
    one_post    answers one request of streamable HTTP, without sessions
    in_process  a service that serves MCP over its own routes

    await serve_stdio(AsyncMemoryClient("http://127.0.0.1:8080"))    # `lorestream mcp`

`POST /mcp` of `lorestream up` and of the query service is in `lorestream.http.mcp_route`. Both call Lorestream's own
HTTP routes, with the caller's key: keys, scopes, rate limits and refusals are those of the routes.
"""
