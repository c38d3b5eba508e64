"""Where a Lorestream is, and the key for it, from the environment of the process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypedDict

from lorestream.errors import Misconfigured

DEFAULT_URL = "http://127.0.0.1:8080"


class Address(TypedDict):
    """Arguments of a client."""

    url: str
    query_url: str | None
    api_key: str | None


def address() -> Address:
    """The address from LORESTREAM_URL and LORESTREAM_QUERY_URL, and the key from `api_key`. Raises Misconfigured."""
    return Address(
        url=os.environ.get("LORESTREAM_URL") or DEFAULT_URL,
        query_url=os.environ.get("LORESTREAM_QUERY_URL") or None,
        api_key=api_key(),
    )


def api_key() -> str | None:
    """The API key from LORESTREAM_API_KEY or the file in LORESTREAM_API_KEY_FILE. Raises Misconfigured."""
    if key := os.environ.get("LORESTREAM_API_KEY"):
        return key.strip()
    if not (path := os.environ.get("LORESTREAM_API_KEY_FILE")):
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"LORESTREAM_API_KEY_FILE: cannot read {path}: {error}") from error
