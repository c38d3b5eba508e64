"""The text of an event as a person sees it: without colour codes and control characters.

Vectors and words are computed from this. The text itself is stored unchanged.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\x1b(?:\((?:\\.|[^)\\])*\)?|.)?", re.DOTALL)
"""Luanti's escape sequences: ESC and one character, or ESC ( ... ), where a backslash escapes the next character
(`unescape_enriched` in Luanti's src/util/string.h)."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def plain(text: str) -> str:
    """The text without Luanti's escape sequences and control characters; lone surrogates become U+FFFD."""
    if text.isascii() and text.isprintable():
        return text
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", _ESCAPE.sub("", text)))
