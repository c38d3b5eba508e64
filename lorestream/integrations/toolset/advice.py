"""Errors as texts that a language model, or its user, can act on."""

from __future__ import annotations

from collections.abc import Sequence

from lorestream.client import (
    Forbidden,
    InvalidValue,
    NotFound,
    Unauthorized,
    VersionConflict,
    WrongService,
)
from lorestream.errors import LorestreamError

WRITES_ELSEWHERE = (
    "this server answers reads only, and the tool writes: give the client the gateway's address as `url`; for /mcp of a"
    " query service, set LORESTREAM_GATEWAY_URL in its settings"
)


_ADVICE: Sequence[tuple[type[LorestreamError], str]] = (
    (Unauthorized, "give the client, or the MCP server, a valid API key (ID.SECRET)"),
    (Forbidden, "ask the operator for a key with this scope"),
    (VersionConflict, "read it with get_state, then write again with its version as if_version"),
    (NotFound, "check the agent_id and the type, or create it first"),
    (InvalidValue, "correct this argument and call the tool again"),
)


def explain(error: LorestreamError) -> str:
    """What failed, and what to do."""
    if isinstance(error, WrongService):
        return WRITES_ELSEWHERE
    for kind, advice in _ADVICE:
        if isinstance(error, kind):
            return f"{error}. What to do: {advice}"
    if error.retryable:
        return f"{error}. Nothing is wrong with the arguments: try again in a few seconds"
    return str(error)
