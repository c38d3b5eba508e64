"""From the bytes of a request to envelopes for the log: split a batch, parse and validate each event, admit it.

An event that a later stage could not process is refused here, with the path of the invalid field. After admission
no part of the system has a player's name.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from lorestream import identity, limits, narrate
from lorestream.errors import EventTooLarge, InvalidEvent, InvalidRequest
from lorestream.events import Put
from lorestream.http.request import HttpError, decode, explain_validation_error
from lorestream.identity import Pseudonyms
from lorestream.limits import MAX_EVENT_BYTES, MAX_EVENTS, MAX_RECORD_BYTES, ServerName
from producers.records import RECORD_TYPES, check_known_fields
from producers.schemas import Coordinates, Event, JsonObject

MAX_FUTURE_S = 300.0
"""A `time` further in the future comes from a wrong clock, and is replaced by the time of acceptance."""
DEFAULT_SERVER = "default"

# --- batches ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventBatch:
    """The body of POST /v1/events: the game server's name, and each event as JSON."""

    server: str
    events: Sequence[bytes | msgspec.Raw]


class _RawBatch(msgspec.Struct):
    events: list[msgspec.Raw] | None
    server: ServerName | None = None


_batch_decoder = msgspec.json.Decoder(_RawBatch)

# Whole strings (the last one may lack its closing quote), so that brackets inside strings are not counted.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},:]', re.DOTALL)


async def split_batch(body: bytes) -> EventBatch:
    """Split a body into its events without parsing them, so that one bad event does not affect the others.

    Raises InvalidRequest and HttpError (400, 413) when the body as a whole is invalid.
    """
    try:
        batch = _batch_decoder.decode(body)
    except msgspec.ValidationError:
        batch = decode(body, _RawBatch)  # decode again for the error that names the field
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # One event is not strict JSON: it has NaN, a lone surrogate, or a thousand brackets. Splitting the body at its
        # commas is slow, so it runs in a thread.
        return await asyncio.to_thread(_split_leniently, body)
    return _batch(batch, batch.events or ())


def _split_leniently(body: bytes) -> EventBatch:
    without_events, events = _extract_events(body)
    return _batch(decode(without_events, _RawBatch), events)


def _batch(batch: _RawBatch, events: Sequence[bytes | msgspec.Raw]) -> EventBatch:
    if len(events) > MAX_EVENTS:
        raise HttpError(
            413,
            "too_many_events",
            f"{len(events)} events; a body may have at most {MAX_EVENTS}",
            max_events=MAX_EVENTS,
        )
    return EventBatch(batch.server or DEFAULT_SERVER, events)


def _extract_events(body: bytes) -> tuple[bytes, list[bytes]]:
    """The body with an empty list of events, and the bytes of each event. Validates nothing."""
    depth, key, previous = 0, b"", b""
    begin = end = start = -1
    events: list[bytes] = []
    for token in _TOKEN.finditer(body):
        mark = token[0]
        if mark in {b"{", b"["}:
            depth += 1
            if begin < 0 and depth == 2 and (key, previous, mark) == (b'"events"', b":", b"["):  # noqa: PLR2004
                begin = start = token.end()
        elif mark in {b"}", b"]"}:
            if depth == 2 and begin >= 0 > end:  # noqa: PLR2004
                end = token.start()
                events.append(body[start:end])
            depth -= 1
        elif mark == b"," and depth == 2 and begin >= 0 > end:  # noqa: PLR2004
            events.append(body[start : token.start()])
            start = token.end()
        elif mark == b":" and depth == 1:
            key = previous
        previous = mark
    if end < 0:
        return body, []
    if len(events) == 1 and not events[0].strip():
        events = []
    return body[:begin] + body[end:], events


# --- one event -------------------------------------------------------------------------------------------

_event_decoder = msgspec.json.Decoder(Event)


def parse_event(raw: bytes | msgspec.Raw) -> Event:
    """Parse and validate one event. Where the text to be generated would have a player's name, it is generated here.

    Raises InvalidEvent for an event that can never become a memory, and HttpError (400) when it is not JSON.
    """
    size = memoryview(raw).nbytes
    if size > MAX_RECORD_BYTES:
        raise EventTooLarge(
            f"{size} bytes; an event may have at most {MAX_RECORD_BYTES}, also without recall"
        )
    event = _decode_event(raw)
    if size > MAX_EVENT_BYTES and is_for_recall(event):
        raise EventTooLarge(
            f"{size} bytes; an event may have at most {MAX_EVENT_BYTES}, and {MAX_RECORD_BYTES} with recall false"
        )
    _validate(event)
    if not event.text and is_for_recall(event):
        event.text = _text_without_names(event)
    return event


def is_for_recall(event: Event) -> bool:
    """Whether the event becomes a memory that searches find; else it becomes a record."""
    return event.type not in RECORD_TYPES if event.recall is None else event.recall


def _decode_event(raw: bytes | msgspec.Raw) -> Event:
    try:
        return _event_decoder.decode(raw)
    except msgspec.ValidationError as error:
        message, path = explain_validation_error(error)
        raise InvalidEvent(message, path=path) from error
    except RecursionError as error:
        raise InvalidEvent("nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _explain_decode_error(bytes(raw)) from error


def _validate(event: Event) -> None:
    """The rules that types cannot express. Raises InvalidEvent."""
    if not event.text and not event.type:
        raise InvalidEvent("text or type is needed")
    try:
        limits.check_agent_id(event.agent_id)
    except InvalidRequest as error:
        raise InvalidEvent(error.message, path=error.path) from error
    if event.time is not None and not limits.is_time(event.time):
        raise InvalidEvent("not in the years 1 to 9999: times are in Unix seconds", path="time")
    if event.type is not None and event.type.startswith(limits.RESERVED_TYPE_PREFIX):
        raise InvalidEvent(f"types that begin with {limits.RESERVED_TYPE_PREFIX} are reserved", path="type")
    _validate_links(event)
    for path, value in (("data", event.data), ("metadata", event.metadata)):
        if value:
            limits.check_json(value, path)
        if isinstance(value, dict):
            check_known_fields(event.type, path, value)


def _validate_links(event: Event) -> None:
    """Check whom the event is about, and the ids that it names. Raises InvalidEvent."""
    for index, entry in enumerate(event.about or ()):
        try:
            limits.check_agent_id(entry, f"about[{index}]")
        except InvalidRequest as error:
            raise InvalidEvent(error.message, path=error.path) from error
    named = [(f"sources[{index}]", one) for index, one in enumerate(event.sources or ())]
    for path, one in (*named, ("supersedes", event.supersedes)):
        if one is not None and limits.canonical_memory_id(one) is None:
            raise InvalidEvent(
                "not a memory id: these are UUIDs, as answers to writes and reads have them", path=path
            )


def _explain_decode_error(raw: bytes) -> InvalidRequest | HttpError:
    """InvalidEvent for JSON with a value that cannot be stored, HttpError (400) for what is not JSON."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return InvalidEvent(f"not UTF-8: {error.reason} at byte {error.start}")
    try:
        # Python's parser accepts NaN, Infinity, lone surrogates and bare control characters.
        event = json.loads(text, strict=False, parse_int=float)
        path = _first_unstorable(event) if isinstance(event, dict) else None
    except ValueError as error:
        return HttpError(400, "invalid_json", f"the body is not JSON: {error}")
    except RecursionError:
        return InvalidEvent("nested too deeply")
    message = "NaN, Infinity, lone surrogates and bare control characters cannot be stored"
    return InvalidEvent(message, path=path)


def _first_unstorable(event: Mapping[str, Any]) -> str | None:
    """The name of the first field whose value strict JSON cannot represent."""
    for key, value in event.items():
        try:
            key.encode()
        except UnicodeEncodeError:
            return None  # the error response could not represent the name either
        try:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except ValueError:
            return key
    return None


# --- envelopes -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Admission:
    """Turns validated events into envelopes. `ttl_s`: the default lifetime in seconds, None = for ever."""

    pseudonyms: Pseudonyms
    ttl_s: float | None

    def admit(self, event: Event, *, tenant: str, server: str, accepted_at: float) -> Put:
        """The envelope of an event: player names replaced, times and expiry fixed. `accepted_at` in Unix seconds.

        Raises InvalidEvent for an event that supersedes itself.
        """
        time, player, recall = event.time, event.player or None, is_for_recall(event)
        agent_id, agent_player = self.pseudonyms.agent(tenant, event.agent_id, player)
        lasting = self.pseudonyms.lasting_agent(tenant, event.agent_id, player)
        if not event.id:
            memory_id = str(uuid.uuid4())
        else:
            memory_id = identity.memory_id(tenant, server, lasting, event.id)
        supersedes = limits.canonical_memory_id(event.supersedes or "")
        if supersedes == memory_id:
            raise InvalidEvent(
                "a memory cannot supersede itself: give the event another id", path="supersedes"
            )
        return Put(
            tenant=tenant,
            agent_id=agent_id,
            memory_id=memory_id,
            server=server,
            timestamp=accepted_at if time is None or time > accepted_at + MAX_FUTURE_S else time,
            accepted_at=accepted_at,
            type=event.type or None,
            text=event.text or None,
            data=_non_empty(event.data),
            metadata=_non_empty(event.metadata),
            player=None if player is None else self.pseudonyms.player(tenant, player),
            agent_player=agent_player,
            pos=_coordinates(event.pos),
            tick=event.tick,
            importance=5.0 if event.importance is None else event.importance,
            expires_at=self._expires_at(event.ttl, accepted_at),
            lasting_agent=None if lasting == agent_id else lasting,
            recall=recall,
            about=tuple(
                dict.fromkeys(self.pseudonyms.about(tenant, one, player) for one in event.about or ())
            ),
            sources=tuple(
                dict.fromkeys(limits.canonical_memory_id(one) or one for one in event.sources or ())
            ),
            supersedes=supersedes,
        )

    def _expires_at(self, ttl: float | None, accepted_at: float) -> float | None:
        """Unix seconds, None = never. Stored with the event: a later change of the default has no effect on it."""
        seconds = self.ttl_s if ttl is None else ttl
        return accepted_at + seconds if seconds else None


def _non_empty(value: JsonObject) -> dict[str, Any] | None:
    return value if isinstance(value, dict) and value else None


def _text_without_names(event: Event) -> str | None:
    """The generated text of an event whose type or `data` have its player's name, with "a player" in place of the name.

    None without the name: then the worker generates the text. It could not here: behind the gateway no part of the
    system has the name.
    """
    kind, data = event.type or "event", _non_empty(event.data) or {}
    about = {identity.about_player(one, event.player) for one in event.about or ()}
    names = {event.player, identity.player_name(event.agent_id), *about} - {None, ""}
    anonymous = narrate.without_names(kind, data, cast("set[str]", names))
    if anonymous == (kind, data):
        return None
    by_player = bool(event.player) or identity.player_name(event.agent_id) is not None
    return narrate.narrate(*anonymous, by_player=by_player)


def _coordinates(pos: Coordinates | list[Any] | None) -> dict[str, float] | None:
    if not isinstance(pos, Coordinates):
        return None
    given = {"x": pos.x, "y": pos.y, "z": pos.z}
    return {axis: value for axis, value in given.items() if value is not None} or None
