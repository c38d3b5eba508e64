"""`lorestream mcp`: a server of the Model Context Protocol over stdin and stdout, as a client of a running Lorestream."""

# ruff: noqa: D301, PLC0415 (signatures are what users type; help must be instant)

from __future__ import annotations

from typing import Annotated

import typer

from lorestream.cli.options import LOCAL, QueryUrl, Url

INSTALL = "type `make mcp` or `pip install '.[mcp]'` in a checkout of Lorestream"


def mcp(
    url: Url = LOCAL,
    query_url: QueryUrl = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="ID.SECRET",
            help="The API key, if the server needs one. Default: LORESTREAM_API_KEY, which other users of this machine"
            " cannot see.",
        ),
    ] = None,
) -> None:
    """Serve the Model Context Protocol over stdin and stdout, for programs that use language models.

    Such a program starts this verb itself: put it into its list of MCP servers.
    Tools: remember, recall, context, recent, about, forget, get_state, put_state.
    A running Lorestream also serves the protocol over HTTP, as POST /mcp.

    \b
    Examples:
    lorestream mcp
    lorestream mcp --url http://127.0.0.1:8080
    {"mcpServers": {"lorestream": {"command": "lorestream", "args": ["mcp"]}}}
    """
    import asyncio

    from lorestream.client import AsyncMemoryClient, environment
    from lorestream.errors import Misconfigured

    try:
        from lorestream.integrations.mcp.server import serve_stdio
    except ModuleNotFoundError as error:
        raise Misconfigured(f"the package {error.name} is not installed: {INSTALL}") from error

    async def serve() -> None:
        key = api_key or environment.api_key()
        async with AsyncMemoryClient(url, query_url=query_url, api_key=key, retry_timeout_s=5.0) as memories:
            await serve_stdio(memories)

    asyncio.run(serve())
