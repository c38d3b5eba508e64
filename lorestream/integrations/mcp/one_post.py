"""One request of MCP's streamable HTTP, answered as JSON. There are no sessions: any process can answer any request."""

from __future__ import annotations

from typing import Any, TypeAlias

from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.types import Message, Receive, Scope

_REPLACED = frozenset({b"content-length", b"content-encoding", b"transfer-encoding"})
"""Headers of the body as it was sent. What the SDK gets is decompressed."""


Answer: TypeAlias = "tuple[int, bytes, list[tuple[bytes, bytes]]]"
"""Status, body and headers of a response."""


async def answer_post(server: Server[Any], scope: Scope, body: bytes, receive: Receive) -> Answer:
    """Answer one request. `body`: the whole body; `receive` then tells that the client left."""
    headers = [(name, value) for name, value in scope["headers"] if name not in _REPLACED]
    given = False
    status, sent_headers, chunks = 500, list[tuple[bytes, bytes]](), list[bytes]()

    async def receive_body() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, sent_headers
        if message["type"] == "http.response.start":
            status, sent_headers = message["status"], list(message.get("headers", []))
        elif message["type"] == "http.response.body":
            chunks.append(message.get("body", b""))

    manager = StreamableHTTPSessionManager(server, json_response=True, stateless=True)
    async with manager.run():
        await manager.handle_request({**scope, "headers": headers}, receive_body, send)
    return status, b"".join(chunks), sent_headers
