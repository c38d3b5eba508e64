"""Whether bytes have the format that a policy is said to have. Only the header is looked at, and nothing is unpickled."""

from __future__ import annotations

import msgspec

from lorestream.errors import InvalidRequest
from lorestream.state.policies import MAX_BYTES, Format

_LENGTH_BYTES = 8
"""safetensors: the length of the header, little-endian, then the header, a JSON object."""
_NPY_MAGIC = b"\x93NUMPY"
_NPY_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
"""npy: for each version of the format, how many bytes the length of its header has."""


def least_size(form: Format, head: bytes | bytearray) -> int:
    """The least size of a file, in bytes, that begins like this: the end of its header.

    `head`: the first 256 KiB, or all that there is. Raises InvalidRequest when it does not begin as the format does.
    """
    match form:
        case "safetensors":
            return _safetensors(head)
        case "npy":
            return _npy(head)
        case "raw":
            return 0


def _safetensors(head: bytes | bytearray) -> int:
    end = _LENGTH_BYTES + int.from_bytes(head[:_LENGTH_BYTES], "little")
    begins = head[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{"
    if not begins or end > MAX_BYTES or (end <= len(head) and not _is_object(head[_LENGTH_BYTES:end])):
        raise _not(
            "safetensors",
            f"{_LENGTH_BYTES} bytes with the length of the header, then the header, a JSON object",
        )
    return end


def _is_object(text: bytes | bytearray) -> bool:
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _npy(head: bytes | bytearray) -> int:
    magic = len(_NPY_MAGIC)
    version = head[magic] if len(head) > magic else 0
    start = magic + 2 + _NPY_LENGTH_BYTES.get(version, 0)
    if not head.startswith(_NPY_MAGIC) or version not in _NPY_LENGTH_BYTES or head[start : start + 1] != b"{":
        raise _not("npy", r"\x93NUMPY, a version from 1 to 3, the length of the header, and the header")
    return start + int.from_bytes(head[magic + 2 : start], "little")


def _not(form: Format, wanted: str) -> InvalidRequest:
    return InvalidRequest(
        f"the body is no {form} file, which begins with {wanted}; use format=raw for other bytes",
        path="format",
    )
