"""One call: its request, and the decoder of its response. Nothing here sends anything."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import msgspec

from lorestream.client.encoding import as_texts, encoded, milliseconds
from lorestream.client.exceptions import Rejected
from lorestream.client.models import Receipt

JSON = "application/json"
BYTES = "application/octet-stream"

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful response. The names of the headers are in lower case."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """One idempotent request: sending it twice has the same effect as sending it once.

    `read` decodes a successful response; `other_success` is a further status that counts as success.
    `content` is of the type `content_type`. `wait_s` is how long the server may wait before it answers. `to_writer`: it goes
    to the gateway, not to the query service. `retries`: whether a failure is retried.
    """

    read: Callable[[Reply], T_co]
    method: str
    path: str
    content: bytes | None = None
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    wait_s: float = 0.0
    to_writer: bool = False
    retries: bool = True
    other_success: int | None = None
    content_type: str = JSON


def read_call(
    kind: type[T], path: str, *, params: Mapping[str, Any] | None = None, wait_s: float | None = None
) -> Call[T]:
    """A GET of the query service."""
    return Call(decoder(kind), "GET", path, params=as_texts(params or {}), wait_s=wait_s or 0.0)


def write_call(
    kind: type[T],
    path: str,
    body: object,
    *,
    method: str = "POST",
    params: Mapping[str, Any] | None = None,
    wait_s: float | None = None,
) -> Call[T]:
    """A request to the gateway with a body of JSON."""
    return Call(
        decoder(kind),
        method,
        path,
        encoded(body),
        params=as_texts(params or {}),
        wait_s=wait_s or 0.0,
        to_writer=True,
    )


def decoder(kind: type[T]) -> Callable[[Reply], T]:
    """The decoder of a JSON response."""
    decode = msgspec.json.Decoder(kind).decode
    return lambda reply: decode(reply.body)


def given(**fields: object) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def scope(agent_id: str | Sequence[str] | None) -> dict[str, Any]:
    """The fields that say whose memories are meant: one agent's, those of several, or, for None, of the whole tenant."""
    if agent_id is None:
        return {"scope": "tenant"}
    return {"agent_id" if isinstance(agent_id, str) else "agent_ids": agent_id}


def wait_ms(wait_s: float | None) -> int | None:
    """The parameter of that name: milliseconds, None without a wait."""
    return None if wait_s is None else milliseconds(wait_s)


def applied(wait_s: float | None) -> dict[str, Any]:
    """The parameters of a write that answers when it is applied, after `wait_s` at the latest."""
    return {} if wait_s is None else {"wait": "applied", "timeout_ms": milliseconds(wait_s)}


def new_event_id() -> str:
    """The id of a write: with the same one, it changes nothing again."""
    return uuid.uuid4().hex


def single(batch: Call[Receipt]) -> Call[Receipt]:
    """The call for a batch of one event; it raises Rejected when the event was refused."""

    def read(reply: Reply) -> Receipt:
        receipt = batch.read(reply)
        for reject in receipt.rejected:
            raise Rejected(reject.message, status=202, code=reject.code)
        return receipt

    return replace(batch, read=read)
