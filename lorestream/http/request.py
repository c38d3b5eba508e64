"""One HTTP call: its body inflated within limits, its answer or its error as JSON."""

from __future__ import annotations

import io
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
import zstandard

from lorestream.access.principals import Forbidden, Grant, Principal, Unauthenticated, only
from lorestream.errors import InvalidRequest, Overloaded, RateLimited, Refusal, Unavailable
from lorestream.http.errors import ErrorAnswer, ErrorBody
from lorestream.http.response import Reply, reply

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

MAX_BODY_BYTES = 2**20
MAX_AGENT_ID_CHARS = 256

Headers: TypeAlias = Mapping[bytes, bytes]
"""By their names in lower case."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_MAX_ENCODINGS = 2
_MAX_GZIP_MEMBERS = 1024
"""Each costs a copy of what is left, even where it holds nothing."""

T = TypeVar("T")


class Refused(Exception):
    """An answer other than success that no error of the domain stands for."""

    def __init__(self, status: int, code: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details


@dataclass(slots=True)
class Call:
    """A request as ASGI hands it over, who makes it, and the id by which logs and the answer speak of it."""

    scope: Scope
    receive: Receive
    headers: Headers
    principal: Principal
    request_id: str

    @property
    def tenant(self) -> str:
        """The caller's tenant."""
        return self.principal.tenant

    def require(self, grant: Grant) -> None:
        """Raise Forbidden (403) unless the caller's key has this scope."""
        self.principal.require(grant)

    def path(self, name: str) -> str:
        """A parameter of the path, percent-decoded. Raises InvalidRequest when it is not UTF-8."""
        try:
            return unquote_to_bytes(self.scope["path_params"][name]).decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest("not percent-encoded UTF-8", path=name) from error

    def place(self, kind: type[T]) -> T:
        """The parameters of the path as a struct whose fields are all texts. Raises InvalidRequest."""
        return _convert({name: self.path(name) for name in self.scope["path_params"]}, kind)

    def params(self, kind: type[T]) -> T:
        """The query string as a struct whose fields are all texts. Raises InvalidRequest."""
        return _convert(self.query(), kind)

    def query(self) -> dict[str, str]:
        """The query string. Raises InvalidRequest where a reader would guess: broken UTF-8, a name twice."""
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
        """The inflated body. Raises Refused (413, 415) and InvalidRequest."""
        message = await self.receive()
        raw: bytes | bytearray = message.get("body", b"")
        while message.get("more_body") and len(raw) <= MAX_BODY_BYTES:
            message = await self.receive()
            raw = bytearray(raw) if isinstance(raw, bytes) else raw
            raw += message.get("body", b"")
        if message["type"] == "http.disconnect":
            raise InvalidRequest("the request broke off")
        if len(raw) > MAX_BODY_BYTES:
            raise _too_large()
        encoding = self.headers.get(b"content-encoding")
        return bytes(raw) if encoding is None else inflate(bytes(raw), encoding.decode("latin-1"))

    async def json(self, kind: type[T]) -> T:
        """The body as a struct. Raises InvalidRequest with the path of the field at fault."""
        return decode(await self.body(), kind)


def inflate(raw: bytes, encoding: str) -> bytes:
    """Undo Content-Encoding, never beyond the limit of a body. Raises Refused and InvalidRequest."""
    names = [part.strip().lower() for part in encoding.split(",") if part.strip()]
    if len(names) > _MAX_ENCODINGS:
        raise Refused(415, "unsupported_encoding", f"a body may be packed {_MAX_ENCODINGS} times")
    for name in reversed(names):
        try:
            match name:
                case "identity":
                    continue
                case "gzip" | "x-gzip":
                    raw = _gunzip(raw)
                case "zstd":
                    with zstandard.ZstdDecompressor(max_window_size=2**23).stream_reader(
                        io.BytesIO(raw), read_across_frames=True
                    ) as reader:
                        raw = reader.read(MAX_BODY_BYTES + 1)
                case _:
                    raise Refused(415, "unsupported_encoding", "send identity, gzip or zstd", encoding=name)
        except (zlib.error, zstandard.ZstdError) as error:
            raise InvalidRequest(f"the body is not {name}: {error}") from error
        if len(raw) > MAX_BODY_BYTES:
            raise _too_large()
    return raw


def _gunzip(raw: bytes) -> bytes:
    """All members of a gzip body, at most one byte more than the limit."""
    inflated = bytearray()
    members = 0
    while raw:
        members += 1
        if members > _MAX_GZIP_MEMBERS:
            raise zlib.error("it has too many members")
        member = zlib.decompressobj(wbits=31)
        inflated += member.decompress(raw, MAX_BODY_BYTES + 1 - len(inflated))
        if len(inflated) > MAX_BODY_BYTES:
            break
        if not member.eof:
            raise zlib.error("it ends too early")
        raw = member.unused_data
    return bytes(inflated)


def decode(raw: bytes, kind: type[T]) -> T:
    """JSON to a struct. Raises InvalidRequest with the path of the field at fault."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(400, "invalid_json", f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise Refused(400, "invalid_json", "the body is nested too deeply") from error


def _convert(values: Mapping[str, str], kind: type[T]) -> T:
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error) from error


def fault(error: msgspec.ValidationError) -> tuple[str, str | None]:
    """What is wrong and the path of the field at fault: msgspec ends its messages with "- at `$.a.b`"."""
    message, _, place = str(error).partition(" - at `")
    return message, place.rstrip("`").removeprefix("$").removeprefix(".") or None


def _invalid(error: msgspec.ValidationError) -> InvalidRequest:
    message, path = fault(error)
    if unknown := re.search(r"unknown field `(.*)`", message):
        path = f"{path}.{unknown[1]}" if path else unknown[1]
    return InvalidRequest(message, path=path)


def _too_large() -> Refused:
    return Refused(
        413, "too_large", f"a body may inflate to {MAX_BODY_BYTES} bytes", max_bytes=MAX_BODY_BYTES
    )


def refusal(error: Exception, request_id: str) -> Reply:
    """The answer to a call that failed: the contract's error object, and when to try again."""
    headers: dict[str, str] = {}
    wait: int | msgspec.UnsetType = msgspec.UNSET
    match error:
        case Refused():
            status, code, message, details = error.status, error.code, error.message, dict(error.details)
        case Unauthenticated():
            status, code, message, details = 401, "unauthorized", str(error), {}
            headers["WWW-Authenticate"] = "Bearer"
        case Forbidden():
            status, code, message, details = 403, "forbidden", str(error), {}
        case InvalidRequest():
            status, code, message = 400, error.code, error.message
            details = {"path": error.path} if error.path else {}
        case Refusal():
            status, code, message, details = 409, "refused", str(error), {}
        case Unavailable():
            status, code = _outage(error)
            message, details = error.message, {"retry_after_ms": error.retry_after_ms}
            wait = error.retry_after_ms  # a Luanti mod sees no headers
            headers["Retry-After"] = str(max(1, -(-error.retry_after_ms // 1000)))
        case _:
            status, code, message, details = 500, "internal", "an error of ours; the log has it", {}
    return reply(ErrorAnswer(ErrorBody(code, message, details, request_id, wait), wait), status, headers)


def _outage(error: Unavailable) -> tuple[int, str]:
    match error:
        case RateLimited():
            return 429, "rate_limited"
        case Overloaded():
            return 429, "overloaded"
        case _:
            return 503, "unavailable"


def headers_of(scope: Scope) -> Headers:
    """The headers of a request. One that comes more than once is its values in a list (RFC 9110, 5.3)."""
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(pairs)
    if len(headers) == len(pairs):
        return headers
    lists: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        lists.setdefault(name, []).append(value)
    return {name: b", ".join(values) for name, values in lists.items()}


def authorization(scope: Scope, headers: Headers) -> str | None:
    """The one Authorization of a request, as `lorestream.access.principals.only` has it."""
    if b"authorization" not in headers:
        return None
    return only([value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"])


def request_id(headers: Headers) -> str:
    """The caller's own X-Request-Id where it is a sane one, else a new one."""
    given = headers.get(b"x-request-id", b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else new_request_id()


def new_request_id() -> str:
    """128 random bits in hexadecimal."""
    return os.urandom(16).hex()
