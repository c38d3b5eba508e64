"""The calls of Q-tables and policies. Each function builds one request; writes as in `lorestream.client.documents`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from lorestream.client.call import (
    BYTES,
    Call,
    Reply,
    applied,
    decoder,
    given,
    new_event_id,
    read_call,
    wait_ms,
    write_call,
)
from lorestream.client.encoding import as_texts, encoded, quoted
from lorestream.client.exceptions import Unreachable
from lorestream.client.state_models import (
    Policy,
    PolicyFormat,
    PolicyVersions,
    QUpdate,
    QValues,
    StateReceipt,
    WriteOutcome,
)

# --- Q-tables --------------------------------------------------------------------------------------------


def q_update(
    agent_id: str,
    updates: Sequence[QUpdate],
    *,
    table: str | None = None,
    event_id: str | None = None,
    wait_s: float | None = None,
) -> Call[StateReceipt]:
    """Apply 1 to 1,000 updates to a Q-table ("q" unless named) of the agent: all of them or none, and once.

    For example {"state": "s1", "action": "dig", "op": "add", "value": 0.5}.
    """
    body = given(table=table, updates=list(updates), event_id=event_id or new_event_id())
    path = f"/v1/q/{quoted(agent_id)}/update"
    return write_call(StateReceipt, path, body, params=applied(wait_s), wait_s=wait_s)


def q_values(
    agent_id: str,
    states: Sequence[str],
    *,
    table: str | None = None,
    after: str | None = None,
    wait_s: float | None = None,
) -> Call[QValues]:
    """The values of 1 to 1,000 states, for example `.values["s1"]["dig"].q`; states that are unknown are absent.

    `after` is the token of an update that they must show, waited for at most `wait_s`.
    """
    body = given(table=table, states=list(states), after=after, wait_ms=wait_ms(wait_s))
    path = f"/v1/q/{quoted(agent_id)}/values"
    return Call(decoder(QValues), "POST", path, encoded(body), wait_s=wait_s or 0.0)


def q_table(
    agent_id: str,
    *,
    table: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    after: str | None = None,
    wait_s: float | None = None,
) -> Call[QValues]:
    """One page of a whole Q-table, `limit` (1,000) states of it; `next_cursor` is for the next page, None on the last one.

    `after` and `wait_s` as in `q_values`.
    """
    params = given(table=table, limit=limit, cursor=cursor or None, after=after, wait_ms=wait_ms(wait_s))
    return read_call(QValues, f"/v1/q/{quoted(agent_id)}", params=params, wait_s=wait_s)


def q_write(
    agent_id: str,
    event_id: str,
    *,
    table: str | None = None,
    after: str | None = None,
    wait_s: float | None = None,
) -> Call[WriteOutcome]:
    """What became of an update of the last 7 days. Raises NotFound. `after`: the token of that update."""
    params = given(table=table, after=after, wait_ms=wait_ms(wait_s))
    path = f"/v1/q/{quoted(agent_id)}/writes/{quoted(event_id, 'event_id')}"
    return read_call(WriteOutcome, path, params=params, wait_s=wait_s)


# --- policies --------------------------------------------------------------------------------------------


def put_policy(
    agent_id: str,
    data: bytes,
    *,
    name: str | None = None,
    format: PolicyFormat | None = None,  # noqa: A002 (the name in the contract)
    if_version: int | None = None,
    event_id: str | None = None,
    wait_s: float | None = None,
) -> Call[StateReceipt]:
    """Store a new version of a policy ("main" unless named): at most 16 MiB, which are never unpickled.

    `format` ("raw" unless given) is checked against the first bytes. `if_version` and `wait_s` as in `put_entity`.
    """
    params = given(name=name, format=format, if_version=if_version, event_id=event_id or new_event_id())
    return Call(
        decoder(StateReceipt),
        "PUT",
        _policy_path(agent_id),
        data,
        params=as_texts(params | applied(wait_s)),
        wait_s=wait_s or 0.0,
        to_writer=True,
        content_type=BYTES,
    )


def policy(
    agent_id: str,
    *,
    name: str | None = None,
    version: int | None = None,
    at: float | None = None,
    after: str | None = None,
    wait_s: float | None = None,
) -> Call[Policy]:
    """A policy with its bytes; the further arguments as in `entity`. Raises NotFound, VersionGone."""

    def read(reply: Reply) -> Policy:
        headers = reply.headers
        fields = {
            "data": reply.body,
            "sha256": headers.get("etag", "").strip('"'),
            "version": headers.get("x-lorestream-version"),
            "format": headers.get("x-lorestream-format", "raw"),
            "fresh": headers.get("x-lorestream-fresh", "true"),
        }
        found = msgspec.convert(
            fields, Policy, strict=False
        )  # not strict: numbers and booleans come as texts
        if hashlib.sha256(found.data).hexdigest() != found.sha256:
            raise Unreachable(
                "the bytes that arrived do not have the SHA-256 that the server named: read them again"
            )
        return found

    params = given(name=name, version=version, at=at, after=after, wait_ms=wait_ms(wait_s))
    return Call(read, "GET", _policy_path(agent_id), params=as_texts(params), wait_s=wait_s or 0.0)


def policy_versions(
    agent_id: str,
    *,
    name: str | None = None,
    limit: int = 20,
    cursor: str | None = None,
    after: str | None = None,
    wait_s: float | None = None,
) -> Call[PolicyVersions]:
    """One page of the versions of a policy that are kept, newest first. Raises NotFound."""
    params = given(name=name, limit=limit, cursor=cursor or None, after=after, wait_ms=wait_ms(wait_s))
    return read_call(PolicyVersions, _policy_path(agent_id) + "/versions", params=params, wait_s=wait_s)


def policy_write(
    agent_id: str,
    event_id: str,
    *,
    name: str | None = None,
    after: str | None = None,
    wait_s: float | None = None,
) -> Call[WriteOutcome]:
    """What became of a write of a policy in the last 7 days. Raises NotFound. `after`: the token of that write."""
    params = given(name=name, after=after, wait_ms=wait_ms(wait_s))
    path = f"{_policy_path(agent_id)}/writes/{quoted(event_id, 'event_id')}"
    return read_call(WriteOutcome, path, params=params, wait_s=wait_s)


def rollback_policy(
    agent_id: str,
    to: int,
    *,
    name: str | None = None,
    if_version: int | None = None,
    event_id: str | None = None,
    wait_s: float | None = None,
) -> Call[StateReceipt]:
    """Make a new version of a policy with the bytes of the version `to`, as `rollback` does."""
    body = given(to=to, if_version=if_version, event_id=event_id or new_event_id())
    params = given(name=name) | applied(wait_s)
    return write_call(StateReceipt, _policy_path(agent_id) + "/rollback", body, params=params, wait_s=wait_s)


def delete_policy(
    agent_id: str, *, name: str | None = None, event_id: str | None = None, wait_s: float | None = None
) -> Call[StateReceipt]:
    """Delete a policy; no error if there is none."""
    body, params = {"event_id": event_id or new_event_id()}, given(name=name) | applied(wait_s)
    return write_call(StateReceipt, _policy_path(agent_id) + "/delete", body, params=params, wait_s=wait_s)


def _policy_path(agent_id: str) -> str:
    return f"/v1/policies/{quoted(agent_id)}"
