"""What of a text a model gets to read: no colour codes, no control characters, no endless tails.

The text itself is stored as it came; only its vector is made of this.
"""

import re

_ESCAPE = re.compile(r"\x1b(?:\((?:\\.|[^)\\])*\)?|.)?", re.DOTALL)
"""Luanti's escapes: ESC and one character, or ESC ( ... ) in which a backslash takes the next character along
(`unescape_enriched` in its src/util/string.h)."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_CHARACTERS_PER_TOKEN = 64


def plain(text: str) -> str:
    """The text without Luanti's escapes and control characters; lone surrogates become U+FFFD."""
    if text.isascii() and text.isprintable():
        return text
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", _ESCAPE.sub("", text)))


def beginning(text: str, max_tokens: int) -> tuple[str, bool]:
    """As much as a model of `max_tokens` could read, and whether something was cut off.

    Tokenizing costs time for every character, also for those that the model never sees. The cut lies far
    behind the last token that it does see: word pieces have 4 to 5 characters, the longest words under 64.
    """
    limit = max_tokens * _CHARACTERS_PER_TOKEN
    return text[:limit], len(text) > limit
