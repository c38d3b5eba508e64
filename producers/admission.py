"""What an event must be to get in, and what it becomes: the envelope of the log.

Everything that could make a later stage stumble is refused here, with the field at fault. Nothing behind
admission sees a player's name.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, cast

import msgspec
from msgspec import Meta

from lorestream import identity
from lorestream.errors import EventTooLarge, InvalidEvent, InvalidRequest
from lorestream.events import Put
from lorestream.http.request import MAX_AGENT_ID_CHARS, Refused, fault
from lorestream.identity import Pseudonyms

MAX_EVENT_BYTES = 16 * 1024
MAX_DEPTH = 32
"""Levels of objects and lists in `data` and `metadata`, themselves included."""
MAX_AHEAD_S = 300.0
"""A `time` further in the future is a wrong clock, and becomes the acceptance."""
RESERVED_TYPES = "lorestream."

_INT64 = range(-(2**63), 2**63)

AgentId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_AGENT_ID_CHARS)]
PlayerName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
Seconds: TypeAlias = Annotated[
    float, Meta(ge=0, description="Seconds from the acceptance; absent = the default, 0 = for ever.")
]
EventId: TypeAlias = Annotated[
    str,
    Meta(
        max_length=256,
        description="The producer's own, unique within its server and agent. Without one, a retry makes a second memory.",
    ),
]
_Empty: TypeAlias = Annotated[list[Any], Meta(max_length=0)]
"""Lua has one type for objects and lists: an empty table may arrive as either."""
Details: TypeAlias = dict[str, Any] | _Empty | None


class Place(msgspec.Struct):
    """Where it happened, in nodes. Any coordinate may be missing."""

    x: float | None = None
    y: float | None = None
    z: float | None = None


class Event(msgspec.Struct, omit_defaults=True):
    """One thing that happened. Needed: `agent_id`, and `text` or `type`. Unknown fields are ignored.

    An empty text, type, id or player is a missing one: Luanti calls whatever is no player "".
    """

    agent_id: AgentId
    id: EventId | None = None
    type: Annotated[str, Meta(max_length=64)] | None = None
    text: (
        Annotated[str, Meta(description="Where it is missing, it is told from `type` and `data`.")] | None
    ) = None
    data: Details = None
    metadata: Details = None
    player: Annotated[str, Meta(max_length=256)] | None = None
    pos: Place | _Empty | None = None
    tick: float | None = None
    time: Annotated[float, Meta(description="Unix seconds; default the acceptance.")] | None = None
    importance: Annotated[float, Meta(ge=0, le=10)] | None = None
    ttl: Seconds | None = None

    def check(self) -> None:
        """What types cannot say. Raises InvalidEvent."""
        if not self.text and not self.type:
            raise InvalidEvent("text or type is needed")
        if self.type is not None and self.type.startswith(RESERVED_TYPES):
            raise InvalidEvent(f"types that begin with {RESERVED_TYPES} are reserved", path="type")
        for path, details in (("data", self.data), ("metadata", self.metadata)):
            if details:
                _check_storable(details, path, MAX_DEPTH)


_decoder = msgspec.json.Decoder(Event)


def read(raw: bytes | msgspec.Raw) -> Event:
    """One event as it was sent.

    Raises InvalidEvent for what can never become a memory, and Refused (400) for what is not JSON at all.
    """
    size = memoryview(raw).nbytes
    if size > MAX_EVENT_BYTES:
        raise EventTooLarge(f"{size} bytes; an event may have {MAX_EVENT_BYTES}")
    try:
        event = _decoder.decode(raw)
    except msgspec.ValidationError as error:
        message, path = fault(error)
        raise InvalidEvent(message, path=path) from error
    except RecursionError as error:
        raise InvalidEvent("nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _what_is_wrong(bytes(raw)) from error
    event.check()
    return event


def _what_is_wrong(raw: bytes) -> InvalidRequest | Refused:
    """Tell JSON with something in it that cannot be stored from what is no JSON."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return InvalidEvent(f"not UTF-8: {error.reason} at byte {error.start}")
    try:
        # Python's parser takes NaN, Infinity, lone surrogates and bare control characters.
        almost = json.loads(text, strict=False, parse_int=float)
        culprit = _not_storable(almost) if isinstance(almost, dict) else None
    except ValueError as error:
        return Refused(400, "invalid_json", f"the body is not JSON: {error}")
    except RecursionError:
        return InvalidEvent("nested too deeply")
    message = "NaN, Infinity, lone surrogates and bare control characters cannot be stored"
    return InvalidEvent(message, path=culprit)


def _not_storable(almost: Mapping[str, Any]) -> str | None:
    """The first field that strict JSON has no words for."""
    for key, value in almost.items():
        try:
            key.encode()
        except UnicodeEncodeError:
            return None  # a name that no answer could hold either
        try:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except ValueError:
            return key
    return None


def _check_storable(value: Mapping[str, Any] | Sequence[Any], path: str, levels: int) -> None:
    """Refuse integers beyond 64 bits and too many levels. NaN and surrogates cannot get this far."""
    if levels == 0:
        raise InvalidEvent(
            f"more than {MAX_DEPTH} levels deep", path=path.partition(".")[0].partition("[")[0]
        )
    if isinstance(value, Mapping):
        for key, part in value.items():
            if part.__class__ is int and part not in _INT64:
                raise InvalidEvent("an integer beyond 64 bits", path=f"{path}.{key}")
            if isinstance(part, dict | list):
                _check_storable(cast("dict[str, Any] | list[Any]", part), f"{path}.{key}", levels - 1)
        return
    for index, part in enumerate(value):
        if part.__class__ is int and part not in _INT64:
            raise InvalidEvent("an integer beyond 64 bits", path=f"{path}[{index}]")
        if isinstance(part, dict | list):
            _check_storable(cast("dict[str, Any] | list[Any]", part), f"{path}[{index}]", levels - 1)


@dataclass(frozen=True, slots=True)
class Admission:
    """Turns events into envelopes. `ttl_s`: the default lifetime in seconds, None = for ever."""

    pseudonyms: Pseudonyms
    ttl_s: float | None

    def admit(self, event: Event, *, tenant: str, server: str, accepted_at: float) -> Put:
        """The envelope of a checked event."""
        agent_id, agent_player = self.pseudonyms.agent(tenant, event.agent_id)
        lasting = self.pseudonyms.lasting_agent(tenant, event.agent_id)
        time, player = event.time, event.player or None
        if not event.id:
            memory_id = str(uuid.uuid4())
        else:
            memory_id = identity.memory_id(tenant, server, lasting, event.id)
        return Put(
            tenant=tenant,
            agent_id=agent_id,
            memory_id=memory_id,
            server=server,
            timestamp=accepted_at if time is None or time > accepted_at + MAX_AHEAD_S else time,
            accepted_at=accepted_at,
            type=event.type or None,
            text=event.text or None,
            data=_object(event.data),
            metadata=_object(event.metadata),
            player=None if player is None else self.pseudonyms.player(tenant, player),
            agent_player=agent_player,
            pos=_coordinates(event.pos),
            tick=event.tick,
            importance=5.0 if event.importance is None else event.importance,
            expires_at=self._expiry(event.ttl, accepted_at),
            lasting_agent=None if lasting == agent_id else lasting,
            naming=None if event.text else _naming(event),
        )

    def _expiry(self, ttl: float | None, accepted_at: float) -> float | None:
        """Fixed here for good: a later change of the default touches no old memory."""
        seconds = self.ttl_s if ttl is None else ttl
        return accepted_at + seconds if seconds else None


def _object(details: Details) -> dict[str, Any] | None:
    return details if isinstance(details, dict) and details else None


def _naming(event: Event) -> list[str] | None:
    """The keys of the data that hold nothing but the name of the event's player, or of the agent's."""
    names = {event.player, identity.player_name(event.agent_id)}
    data = _object(event.data) or {}
    return [key for key, value in data.items() if isinstance(value, str) and value in names] or None


def _coordinates(pos: Place | list[Any] | None) -> dict[str, float] | None:
    if not isinstance(pos, Place):
        return None
    given = {"x": pos.x, "y": pos.y, "z": pos.z}
    return {axis: value for axis, value in given.items() if value is not None} or None
