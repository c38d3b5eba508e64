"""Request bodies: decompression and its limits, decoding, error responses."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from typing import Any

import msgspec
import pytest
import zstandard

from lorestream.access.authentication import ANONYMOUS
from lorestream.errors import InvalidFilter, InvalidRequest, Overloaded, Unavailable
from lorestream.http.errors import error_response
from lorestream.http.request import MAX_BODY_BYTES, ApiRequest, HttpError, decode, decompress, request_id_of

BODY = b'{"a": 1}' * 100


class Params(msgspec.Struct):
    limit: float = 5.0
    name: str | None = None


class Body(msgspec.Struct, forbid_unknown_fields=True):
    a: int
    b: list[str] = []


def call(path: dict[str, str], query: bytes = b"") -> ApiRequest:
    scope = {"type": "http", "headers": [], "path_params": path, "query_string": query}

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    return ApiRequest(scope, receive, {}, ANONYMOUS, "r")


@pytest.mark.parametrize(
    ("encoding", "raw"),
    [
        ("", BODY),
        ("identity", BODY),
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("X-GZIP", gzip.compress(BODY, mtime=0)),
        ("gzip", gzip.compress(BODY[:50], mtime=0) + gzip.compress(BODY[50:], mtime=0)),
        ("zstd", zstandard.compress(BODY)),
        ("zstd", zstandard.compress(BODY[:50]) + zstandard.compress(BODY[50:])),
        ("gzip, zstd", zstandard.compress(gzip.compress(BODY, mtime=0))),
    ],
)
def test_bodies_are_decompressed(encoding: str, raw: bytes) -> None:
    assert decompress(raw, encoding) == BODY


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_decompression_stops_at_the_limit(pack: object) -> None:
    assert callable(pack)
    encoding = "gzip" if pack is gzip.compress else "zstd"
    assert len(decompress(pack(bytes(MAX_BODY_BYTES)), encoding)) == MAX_BODY_BYTES
    for size in (MAX_BODY_BYTES + 1, 2**28):
        with pytest.raises(HttpError) as caught:
            decompress(pack(bytes(size)), encoding)
        assert (caught.value.status, caught.value.code) == (413, "too_large")


def test_compression_bombs_of_many_members_or_layers_are_refused() -> None:
    piece = gzip.compress(bytes(2**16))
    for raw, encoding in ((piece * 17, "gzip"), (gzip.compress(gzip.compress(bytes(2**28))), "gzip, gzip")):
        with pytest.raises(HttpError) as caught:
            decompress(raw, encoding)
        assert caught.value.status == 413


@pytest.mark.parametrize(
    ("encoding", "raw"),
    [
        ("gzip", b"rubbish"),
        ("gzip", gzip.compress(BODY, mtime=0)[:-1]),
        ("gzip", gzip.compress(BODY, mtime=0)[:20]),
        ("gzip", gzip.compress(BODY, mtime=0) + b"rubbish"),
        ("gzip", zlib.compress(BODY)),
        ("zstd", b"rubbish"),
        ("zstd", gzip.compress(BODY, mtime=0)),
        ("zstd", zstandard.compress(BODY)[:-1]),
        ("zstd", zstandard.compress(random.Random(1).randbytes(2**18))[: 2**17 + 100]),
        ("zstd", zstandard.compress(BODY) * 2 + zstandard.compress(BODY)[:-1]),
        ("gzip, zstd", zstandard.compress(gzip.compress(BODY, mtime=0))[:-1]),
    ],
)
def test_a_body_with_a_wrong_encoding_is_refused(encoding: str, raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match=f"not valid {encoding.rsplit(maxsplit=1)[-1]}"):
        decompress(raw, encoding)


def test_members_frames_and_encodings_are_limited() -> None:
    with pytest.raises(InvalidRequest, match="more than 1024 members"):
        decompress(gzip.compress(b"", mtime=0) * 2000, "gzip")
    with pytest.raises(InvalidRequest, match="more than 1024 frames"):
        decompress(zstandard.compress(b"") * 2000, "zstd")
    with pytest.raises(HttpError) as caught:
        decompress(gzip.compress(gzip.compress(gzip.compress(BODY, mtime=0))), "gzip, gzip, gzip")
    assert caught.value.status == 415


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, br", "?"])
def test_other_encodings_are_not_supported(encoding: str) -> None:
    with pytest.raises(HttpError) as caught:
        decompress(gzip.compress(BODY, mtime=0), encoding)
    assert caught.value.status == 415


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"{}", "a"),
        (b"[]", None),
        (b'{"a": "1"}', "a"),
        (b'{"a": 1, "b": null}', "b"),
        (b'{"a": 1, "b": ["x", 3]}', "b[1]"),
        (b'{"a": 1, "c": 3}', "c"),
    ],
)
def test_the_invalid_field_is_named(raw: bytes, path: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(raw, Body)
    assert caught.value.path == path


@pytest.mark.parametrize(
    "raw", [b"", b"{", b'{"a": NaN}', b'{"a": 1, "b": ["\xff"]}', b'{"a": 1, "x": ' + b"[" * 10**5]
)
def test_invalid_json_is_refused(raw: bytes) -> None:
    with pytest.raises((HttpError, InvalidRequest)) as caught:
        decode(raw, msgspec.Raw if raw == b"{" else Body)
    status = json.loads(bytes(error_response(caught.value, "r").body))["error"]["code"]
    assert status in {"invalid_json", "invalid_request"}


@pytest.mark.parametrize(
    "raw", [rb'{"a": "\ud800"}', rb'{"a": 1, "\uDBFF": 2}', rb'{"a": "\udc00 and more"}']
)
def test_a_lone_surrogate_is_named(raw: bytes) -> None:
    """At the end of the body, too, where it looks like the first half of a pair."""
    with pytest.raises(HttpError, match="surrogate"):
        decode(raw, Body)
    with pytest.raises(HttpError, match="truncated"):
        decode(rb'{"a": "\ud83d\ude00', Body)


def test_error_responses_have_the_documented_form() -> None:
    answer = error_response(InvalidFilter("no such operator", path="filters.x"), "r1")
    assert answer.status == 400
    assert json.loads(bytes(answer.body)) == {
        "error": {
            "code": "invalid_filter",
            "message": "no such operator",
            "details": {"path": "filters.x"},
            "request_id": "r1",
        }
    }


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Unavailable("x", retry_after_ms=1500), 503, "unavailable"),
        (Overloaded("x", retry_after_ms=1500), 429, "overloaded"),
    ],
)
def test_retry_times_are_in_the_body_and_the_header(error: Unavailable, status: int, code: str) -> None:
    answer = error_response(error, "r1")
    body = json.loads(bytes(answer.body))
    assert (answer.status, body["error"]["code"]) == (status, code)
    assert body["retry_after_ms"] == body["error"]["retry_after_ms"] == 1500
    assert dict(answer.headers)[b"retry-after"] == b"2"


def test_an_internal_error_shows_no_details() -> None:
    answer = error_response(RuntimeError("secret"), "r1")
    assert answer.status == 500
    assert b"secret" not in bytes(answer.body)


def test_path_parameters_are_percent_decoded_once() -> None:
    assert call({"name": "a%2Fb%2520%C3%A4"}).path_param("name") == "a/b%20ä"
    with pytest.raises(InvalidRequest) as caught:
        call({"name": "%FF"}).path_param("name")
    assert caught.value.path == "name"


@pytest.mark.parametrize("number", ["NaN", "nan", "inf", "-Infinity"])
def test_a_parameter_that_is_a_number_is_finite(number: str) -> None:
    with pytest.raises(InvalidRequest, match="finite") as caught:
        call({}, f"limit={number}".encode()).query_params(Params)
    assert caught.value.path == "limit"
    assert call({}, f"name={number}&other=1".encode()).query_params(Params) == Params(5.0, number)


def test_a_valid_request_id_is_kept_and_an_invalid_one_replaced() -> None:
    assert request_id_of({b"x-request-id": b"abc-1.2_3"}) == "abc-1.2_3"
    for given in ("", "a b", "x" * 65, "ä", "a\n"):
        made = request_id_of({b"x-request-id": given.encode("latin-1")})
        assert made != given
        assert len(made) == 32
