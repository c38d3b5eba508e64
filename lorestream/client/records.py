"""The calls of records: messages, tool calls, rewards, interactions, states. Each function builds one request.

Records are events with fields of their own. `event` takes the other fields of an event: `tick`, `time`, `metadata`, `player`, `ttl`,
`id`. Only messages are found by searches; the others are read by their type and time.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Literal, cast

from lorestream.client.call import Call, Reply, decoder, given, single
from lorestream.client.calls import add_batch, get, recent
from lorestream.client.encoding import encoded, quoted
from lorestream.client.exceptions import NotFound, Unreachable
from lorestream.client.models import Event, FoundMemory, Order, Page, Receipt
from lorestream.client.state_models import AgentState, AgentStates, Bucket, Buckets

_STATE_FIELDS = {"bytes", "codec", "encoder_version"}


def message(
    agent_id: str,
    text: str,
    *,
    role: str | None = None,
    name: str | None = None,
    conversation: str | int | None = None,
    event: Event | None = None,
    server: str | None = None,
    wait_s: float | None = None,
) -> Call[Receipt]:
    """Remember a message: what was said (`text`), by whom (`role`, `name`), in which `conversation`.

    It is a memory as well: searches and contexts find it. `wait_s` as in `add`. Raises Rejected.
    """
    data = given(role=role, name=name, conversation=conversation)
    return _record(agent_id, "message", data, {**(event or {}), "text": text}, server=server, wait_s=wait_s)


def messages(
    agent_id: str,
    limit: int = 20,
    *,
    conversation: str | int | None = None,
    cursor: str | None = None,
    order: Order | None = None,
    tick_from: float | None = None,
    tick_to: float | None = None,
    since: float | None = None,
    until: float | None = None,
) -> Call[Page]:
    """One page of the agent's messages, of one `conversation` or of all; newest first, or order "oldest".

    The speaker is in the `metadata` of each: `role`, `name`, `conversation`. The bounds are those of `recent`.
    """
    return recent(
        agent_id,
        limit,
        conversation=conversation,
        cursor=cursor,
        order=order,
        type="message",
        tick_from=tick_from,
        tick_to=tick_to,
        since=since,
        until=until,
    )


def tool(
    agent_id: str,
    tool: str,
    *,
    input: Any = None,  # noqa: A002, ANN401 (the name in the contract; any JSON value)
    output: Any = None,  # noqa: ANN401 (any JSON value)
    ok: bool | None = None,
    took_ms: float | None = None,
    event: Event | None = None,
    server: str | None = None,
    wait_s: float | None = None,
) -> Call[Receipt]:
    """Record the use of a tool. `recent(agent_id, type="tool")` reads them. Raises Rejected."""
    data = given(tool=tool, input=input, output=output, ok=ok, took_ms=took_ms)
    return _record(agent_id, "tool", data, event, server=server, wait_s=wait_s)


def reward(
    agent_id: str,
    value: float,
    *,
    components: Mapping[str, float] | None = None,
    event: Event | None = None,
    server: str | None = None,
    wait_s: float | None = None,
) -> Call[Receipt]:
    """Record a reward and, by name, what it is made of. Raises Rejected."""
    return _record(
        agent_id, "reward", given(value=value, components=components), event, server=server, wait_s=wait_s
    )


def rewards(
    agent_id: str,
    limit: int = 20,
    *,
    cursor: str | None = None,
    order: Order | None = None,
    tick_from: float | None = None,
    tick_to: float | None = None,
    since: float | None = None,
    until: float | None = None,
    filters: Mapping[str, Any] | None = None,
) -> Call[Page]:
    """One page of the agent's rewards: `metadata["value"]`. The arguments are those of `recent`."""
    return recent(
        agent_id,
        limit,
        cursor=cursor,
        order=order,
        type="reward",
        tick_from=tick_from,
        tick_to=tick_to,
        since=since,
        until=until,
        filters=filters,
    )


def interaction(
    agent_id: str,
    request: Any,  # noqa: ANN401 (any JSON value)
    response: Any,  # noqa: ANN401 (any JSON value)
    feedback: Any = None,  # noqa: ANN401 (any JSON value)
    *,
    event: Event | None = None,
    server: str | None = None,
    wait_s: float | None = None,
) -> Call[Receipt]:
    """Record a request, the response to it, and what was thought of that. Raises Rejected."""
    data = given(request=request, response=response, feedback=feedback)
    return _record(agent_id, "interaction", data, event, server=server, wait_s=wait_s)


def interactions(
    agent_id: str,
    limit: int = 20,
    *,
    cursor: str | None = None,
    order: Order | None = None,
    tick_from: float | None = None,
    tick_to: float | None = None,
    since: float | None = None,
    until: float | None = None,
    filters: Mapping[str, Any] | None = None,
) -> Call[Page]:
    """One page of the agent's interactions: `metadata["request"]` and so on. The arguments are those of `recent`."""
    return recent(
        agent_id,
        limit,
        cursor=cursor,
        order=order,
        type="interaction",
        tick_from=tick_from,
        tick_to=tick_to,
        since=since,
        until=until,
        filters=filters,
    )


def put_state(
    agent_id: str,
    data: bytes,
    *,
    codec: str | None = None,
    encoder_version: str | int | None = None,
    event: Event | None = None,
    server: str | None = None,
    wait_s: float | None = None,
) -> Call[Receipt]:
    """Record a state of the agent as bytes, about 48 KB at most; `Receipt.ids[0]` is its id. Raises Rejected.

    `codec` says how the bytes were made, such as "zlib"; `encoder_version` which version of the agent's encoder made them.
    """
    fields = given(bytes=base64.b64encode(data).decode(), codec=codec, encoder_version=encoder_version)
    return _record(agent_id, "agent_state", fields, event, server=server, wait_s=wait_s)


def state(memory_id: str, agent_id: str) -> Call[AgentState]:
    """The state with this id. Raises NotFound, also if the id is that of a memory."""
    found = get(memory_id, agent_id)

    def read(reply: Reply) -> AgentState:
        memory = found.read(reply)
        if memory.type != "agent_state":
            raise NotFound(f"{memory_id} is no state of an agent", status=404, code="not_found")
        return _state(memory)

    return Call(read, found.method, found.path, params=found.params)


def states(
    agent_id: str,
    limit: int = 20,
    *,
    cursor: str | None = None,
    order: Order | None = None,
    tick_from: float | None = None,
    tick_to: float | None = None,
    since: float | None = None,
    until: float | None = None,
) -> Call[AgentStates]:
    """One page of the agent's states, newest first, or order "oldest". The arguments are those of `recent`."""
    page = recent(
        agent_id,
        limit,
        cursor=cursor,
        order=order,
        type="agent_state",
        tick_from=tick_from,
        tick_to=tick_to,
        since=since,
        until=until,
    )

    def read(reply: Reply) -> AgentStates:
        found = page.read(reply)
        return AgentStates([_state(memory) for memory in found.memories], found.total, found.next_cursor)

    return Call(read, page.method, page.path, params=page.params)


def aggregate(
    agent_id: str,
    type: str | None = "reward",  # noqa: A002 (the name in the contract)
    field: str = "metadata.value",
    *,
    every_s: float | None = None,
    every_ticks: float | None = None,
    since: float | None = None,
    until: float | None = None,
    filters: Mapping[str, Any] | None = None,
    group_by: Literal["type", "server", "player"] | None = None,
) -> Call[list[Bucket]]:
    """Count, sum, mean, minimum, maximum, deviation and last value of a number in the agent's records of a type.

    `type` None: in its memories. One bucket for every `every_s` seconds or `every_ticks` ticks, without both one for
    all, and with `group_by` for each value of that field; exact, over at most 100,000 records.
    """
    body = given(
        type=type,
        field=field,
        every_s=every_s,
        every_ticks=every_ticks,
        since=since,
        until=until,
        filters=filters,
        group_by=group_by,
    )
    decode = decoder(Buckets)
    path = f"/v1/agents/{quoted(agent_id)}/aggregate"
    return Call(lambda reply: decode(reply).buckets, "POST", path, encoded(body))


def _record(
    agent_id: str,
    type_: str,
    data: Mapping[str, Any],
    event: Mapping[str, Any] | None,
    **batch: Any,  # noqa: ANN401
) -> Call[Receipt]:
    """`batch`: further arguments of `add_batch`."""
    fields = cast("Event", {**(event or {}), "agent_id": agent_id, "type": type_, "data": data})
    return single(add_batch([fields], **batch))


def _state(memory: FoundMemory) -> AgentState:
    fields = memory.metadata
    try:
        data = base64.b64decode(fields["bytes"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise Unreachable(f"the state {memory.id} that arrived has no bytes ({error!r})") from error
    return AgentState(
        memory.id,
        memory.agent_id,
        data,
        memory.timestamp,
        codec=fields.get("codec"),
        encoder_version=fields.get("encoder_version"),
        tick=memory.tick,
        metadata={name: value for name, value in fields.items() if name not in _STATE_FIELDS},
    )
