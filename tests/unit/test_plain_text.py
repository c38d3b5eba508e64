"""What is left of a text without escape sequences and control characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorestream.plain_text import plain


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("an oak by the mill", "an oak by the mill"),
        ("\x1b(c@#ff0000)red\x1b(c@#ffffff) flower", "red flower"),
        (r"x" + "\x1b(T@mod)" + "Oak" + "\x1bE", "xOak"),
        ("a\x1b(b@\\)still inside)b", "ab"),
        ("kept\x1b(never closed", "kept"),
        ("ends in\x1b", "ends in"),
        ("a\x00b\x07c\x7fd\x9fe", "abcde"),
        ("tab\tand\nlines\r\n", "tab\tand\nlines\r\n"),
        ("half \ud83d of one", "half \ufffd of one"),
        ("Ärger 😀 и мир", "Ärger 😀 и мир"),
    ],
)
def test_plain(text: str, wanted: str):
    assert plain(text) == wanted


@given(st.text(st.characters()))
def test_plain_text_can_be_encoded_and_has_nothing_to_drop(text: str):
    once = plain(text)
    once.encode()
    assert plain(once) == once
    assert "\x1b" not in once
