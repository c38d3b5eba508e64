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
    "this server answers reads only: tools that write need LORESTREAM_GATEWAY_URL, the address of the gateway, in the"
    " settings of the query service"
)


_ADVICE: Sequence[tuple[type[LorestreamError], str]] = (
    (Unauthorized, "give a valid API key (ID.SECRET) to the MCP server or to its client"),
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
