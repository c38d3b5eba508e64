"""Lorestream in other frameworks, over the client (`lorestream.client`).

    toolset        the tools that MCP, LangChain and Pydantic AI offer to a language model
    steps          several calls in a row, for either client
    mcp            Model Context Protocol: `lorestream mcp`, `POST /mcp`

A module that imports a framework is named after it, and needs the extra of that name.
"""
