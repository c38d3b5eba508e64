"""One HTTP request and its response: body limits, decompression, JSON decoding, JSON encoding."""

from __future__ import annotations

import io
import math
import os
import re
import zlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
import zstandard

from lorestream import limits
from lorestream.access.authentication import Principal, single_authorization
from lorestream.access.key_file import KeyScope
from lorestream.errors import InvalidRequest

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

MAX_BODY_BYTES = 2**20
"""The limit of a request body, before and after decompression."""

Headers: TypeAlias = Mapping[bytes, bytes]
"""Request headers by name, in lower case."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_MAX_ENCODINGS = 2
_MAX_MEMBERS = 1024
"""Each member of a gzip body and each frame of a zstd body costs a copy of the remaining input, even when it is empty."""

_CONTENT_TYPE_JSON = (b"content-type", b"application/json")
_encoder = msgspec.json.Encoder()

T = TypeVar("T")


class HttpError(Exception):
    """An error response with its own status and code, for errors that `lorestream.errors` has no class for."""

    def __init__(self, status: int, code: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details


@dataclass(slots=True)
class ApiRequest:
    """An authenticated request. `request_id` identifies it in log lines and in the response.

    Starlette's own Request is not used: building it costs more CPU time than a short response.
    """

    scope: Scope
    receive: Receive
    headers: Headers
    principal: Principal
    request_id: str
    body_read: bool = False
    """The whole body was received."""

    @property
    def reads_body(self) -> bool:
        """Whether the handler of this method reads a body."""
        return self.scope["method"] not in {"GET", "DELETE"}

    @property
    def tenant(self) -> str:
        """The caller's tenant."""
        return self.principal.tenant

    def require(self, *key_scopes: KeyScope) -> None:
        """Raise Forbidden (403) unless the caller's key has one of these scopes."""
        self.principal.require(*key_scopes)

    def path_param(self, name: str) -> str:
        """One path parameter, percent-decoded. Raises InvalidRequest when it is not UTF-8."""
        try:
            return unquote_to_bytes(self.scope["path_params"][name]).decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest("not percent-encoded UTF-8", path=name) from error

    def path_params(self, kind: type[T]) -> T:
        """The path parameters as a struct whose fields are all strings. Raises InvalidRequest."""
        return _convert({name: self.path_param(name) for name in self.scope["path_params"]}, kind)

    def query_params(self, kind: type[T]) -> T:
        """The query string as a struct; numbers are converted. Raises InvalidRequest."""
        return _convert(self.query_values(), kind)

    def query_values(self) -> dict[str, str]:
        """The query string. Raises InvalidRequest for invalid UTF-8 and for a repeated name."""
        raw: bytes = self.scope["query_string"]
        if not raw:
            return {}
        try:
            unquote_to_bytes(raw).decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest("the query string is not percent-encoded UTF-8") from error
        found: dict[str, str] = {}
        for name, value in parse_qsl(raw.decode("latin-1"), keep_blank_values=True):
            if name in found:
                raise InvalidRequest("given more than once", path=name)
            found[name] = value
        return found

    async def body(self) -> bytes:
        """The decompressed body. Raises HttpError (413, 415) and InvalidRequest."""
        parts = [part async for part in self.chunks(MAX_BODY_BYTES)]
        raw = parts[0] if len(parts) == 1 else b"".join(parts)
        encoding = self.encoding
        return raw if encoding is None else decompress(raw, encoding)

    @property
    def content_length(self) -> int | None:
        """The announced size of the body in bytes, None without one."""
        length = self.headers.get(b"content-length", b"")
        return int(length) if length.isdigit() else None

    @property
    def encoding(self) -> str | None:
        """The Content-Encoding, None without one."""
        encoding = self.headers.get(b"content-encoding")
        return None if encoding is None else encoding.decode("latin-1")

    async def chunks(self, max_bytes: int) -> AsyncGenerator[bytes]:
        """The body as it arrives, still compressed. Raises HttpError (413) above `max_bytes`, and InvalidRequest."""
        if (self.content_length or 0) > max_bytes:
            raise _too_large(max_bytes)
        size, more = 0, True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise InvalidRequest("the connection closed before the body was complete")
            chunk: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            self.body_read = not more
            size += len(chunk)
            if size > max_bytes:
                raise _too_large(max_bytes)
            yield chunk

    async def json(self, kind: type[T]) -> T:
        """The body as a struct. Raises HttpError, and InvalidRequest with the path of the invalid field."""
        return decode(await self.body(), kind)


def decompress(raw: bytes, encoding: str, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Undo the Content-Encoding. Raises HttpError (413 above `max_bytes`, 415) and InvalidRequest."""
    names = [part.strip().lower() for part in encoding.split(",") if part.strip()]
    if len(names) > _MAX_ENCODINGS:
        raise HttpError(415, "unsupported_encoding", f"a body may have at most {_MAX_ENCODINGS} encodings")
    for name in reversed(names):
        try:
            match name:
                case "identity":
                    continue
                case "gzip" | "x-gzip":
                    raw = _gunzip(raw, max_bytes)
                case "zstd":
                    raw = _unzstd(raw, max_bytes)
                case _:
                    raise HttpError(415, "unsupported_encoding", "send identity, gzip or zstd", encoding=name)
        except (zlib.error, zstandard.ZstdError) as error:
            raise InvalidRequest(f"the body is not valid {name}: {error}") from error
        if len(raw) > max_bytes:
            raise _too_large(max_bytes)
    return raw


def _unzstd(raw: bytes, max_bytes: int) -> bytes:
    """All frames of a zstd body, cut off at `max_bytes` + 1 bytes. Raises ZstdError, also for a frame that is cut off."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=2**23)
    with decompressor.stream_reader(io.BytesIO(raw), read_across_frames=True) as reader:
        inflated = reader.read(max_bytes + 1)
    if len(inflated) > max_bytes:
        return inflated
    # A reader does not tell that the last frame is cut off; an object for each frame does. It has no limit of its
    # own, so it comes second, when the size is known.
    frames = 0
    while raw:
        frames += 1
        if frames > _MAX_MEMBERS:
            raise zstandard.ZstdError(f"more than {_MAX_MEMBERS} frames")
        frame = decompressor.decompressobj()
        frame.decompress(raw)
        if not frame.eof:
            raise zstandard.ZstdError("incomplete frame")
        raw = frame.unused_data
    return inflated


def _gunzip(raw: bytes, max_bytes: int) -> bytes:
    """All members of a gzip body, cut off at `max_bytes` + 1 bytes."""
    inflated = bytearray()
    members = 0
    while raw:
        members += 1
        if members > _MAX_MEMBERS:
            raise zlib.error(f"more than {_MAX_MEMBERS} members")
        member = zlib.decompressobj(wbits=31)
        inflated += member.decompress(raw, max_bytes + 1 - len(inflated))
        if len(inflated) > max_bytes:
            break
        if not member.eof:
            raise zlib.error("incomplete member")
        raw = member.unused_data
    return bytes(inflated)


def decode(raw: bytes, kind: type[T]) -> T:
    """JSON to a struct. Raises HttpError (400 invalid_json), and InvalidRequest with the invalid field's path."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fault = limits.json_fault(raw, error)
        raise HttpError(400, "invalid_json", f"the body is not JSON: {fault}") from error
    except RecursionError as error:
        raise HttpError(400, "invalid_json", "the body is nested too deeply") from error


def _convert(values: Mapping[str, str], kind: type[T]) -> T:
    """Parameters as a struct. Python reads `NaN` and `inf` as numbers; none of the parameters means them."""
    try:
        converted = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error) from error
    for name in values:
        number: object = getattr(converted, name, None)
        if isinstance(number, float) and not math.isfinite(number):
            raise InvalidRequest("a finite number is needed here", path=name)
    return converted


def explain_validation_error(error: msgspec.ValidationError) -> tuple[str, str | None]:
    """The message and the path of the invalid field: msgspec ends its messages with "- at `$.a.b`"."""
    message, _, path = str(error).partition(" - at `")
    return message, path.rstrip("`").removeprefix("$").removeprefix(".") or None


def _invalid(error: msgspec.ValidationError) -> InvalidRequest:
    message, path = explain_validation_error(error)
    if field := re.search(r"(?:unknown|missing required) field `(.*)`", message):
        path = f"{path}.{field[1]}" if path else field[1]
    return InvalidRequest(message, path=path)


def _too_large(max_bytes: int) -> HttpError:
    return HttpError(
        413,
        "too_large",
        f"a body may have at most {max_bytes} bytes, before and after decompression",
        max_bytes=max_bytes,
    )


def headers_of(scope: Scope) -> Headers:
    """The headers of a request. The values of a repeated header are joined with commas (RFC 9110, 5.3)."""
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(pairs)
    if len(headers) == len(pairs):
        return headers
    lists: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        lists.setdefault(name, []).append(value)
    return {name: b", ".join(values) for name, values in lists.items()}


def authorization_of(scope: Scope, headers: Headers) -> str | None:
    """The Authorization header: None without one, "" (never valid) with more than one."""
    if b"authorization" not in headers:
        return None
    return single_authorization(
        [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
    )


def request_id_of(headers: Headers) -> str:
    """The caller's X-Request-Id where it has the allowed form, else a new one."""
    given = headers.get(b"x-request-id", b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else new_request_id()


def new_request_id() -> str:
    """A new request id: 128 random bits in hexadecimal."""
    return os.urandom(16).hex()


@dataclass(slots=True)
class ApiResponse:
    """A complete response, as an ASGI application. Names in `headers` are in lower case."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]]

    def set_header(self, name: str, value: str) -> None:
        """Add a header whose value is printable Latin-1."""
        self.headers.append((name.lower().encode(), value.encode("latin-1")))

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the response (ASGI)."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> ApiResponse:
    """A response whose body is `value` as JSON."""
    response = encoded_json_response(_encoder.encode(value), status)
    for name, text in (headers or {}).items():
        response.set_header(name, text)
    return response


def found_response(answer: object | None, missing: str, status: int = 200) -> ApiResponse:
    """A response whose body is `answer` as JSON. Raises HttpError (404) with the message `missing` if it is None."""
    if answer is None:
        raise HttpError(404, "not_found", missing)
    return json_response(answer, status)


def encoded_json_response(body: bytes, status: int = 200) -> ApiResponse:
    """A response whose body is JSON that is encoded already."""
    return ApiResponse(status, body, [(b"content-length", b"%d" % len(body)), _CONTENT_TYPE_JSON])
