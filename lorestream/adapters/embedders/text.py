"""Which part of a text an embedding model reads: without colour codes, control characters and excess length.

Only the vector is computed from this. The text itself is stored unchanged.
"""

import re

_ESCAPE = re.compile(r"\x1b(?:\((?:\\.|[^)\\])*\)?|.)?", re.DOTALL)
"""Luanti's escape sequences: ESC and one character, or ESC ( ... ), where a backslash escapes the next character
(`unescape_enriched` in Luanti's src/util/string.h)."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_CHARACTERS_PER_TOKEN = 64
"""An upper bound: a word piece has 4 to 5 characters on average, and the longest words have fewer than 64."""


def plain(text: str) -> str:
    """The text without Luanti's escape sequences and control characters; lone surrogates become U+FFFD."""
    if text.isascii() and text.isprintable():
        return text
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", _ESCAPE.sub("", text)))


def cut_to_fit(text: str, max_tokens: int) -> tuple[str, bool]:
    """Shorten a text to 64 characters for each of `max_tokens` tokens. Returns it, and whether it was shortened.

    Tokenizing costs time for every character, also for those that the model does not read. All tokens that the
    model reads lie within this length.
    """
    limit = max_tokens * _CHARACTERS_PER_TOKEN
    return text[:limit], len(text) > limit
