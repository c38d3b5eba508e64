"""Texts that share a cached vector have the same tokens."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from lorestream.adapters.embedders.model_files import TOKENIZER
from lorestream.adapters.embedders.same_tokens import same_tokens
from tests.models import real_model


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(real_model().directory / TOKENIZER))


def ids(text: str) -> list[int]:
    return tokenizer().encode(text, add_special_tokens=False).ids


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["Oak", "OAK", " ", "  ", "\t", "\n", "é", "É", "[SEP]", "[sep]", "Ω", "林", "ß", "\u0301", "7"]
        )
    )
)
def test_texts_with_the_same_result_have_the_same_tokens(parts: list[str]) -> None:
    text = "".join(parts)
    assert ids(same_tokens(tokenizer())(text)) == ids(text)


def test_case_accents_and_white_space_make_no_difference() -> None:
    same = same_tokens(tokenizer())
    assert same("The  OLD\tcafé ") == same("the old cafe")
    assert same("the old cafe") != same("the oldcafe")


def test_a_special_token_is_another_word_in_lower_case() -> None:
    same = same_tokens(tokenizer())
    assert ids("[SEP]") != ids("[sep]")
    assert same("[SEP]") != same("[sep]")


def test_for_another_tokenizer_each_text_is_its_own() -> None:
    other = Tokenizer(models.WordLevel({"oak": 0}, unk_token="oak"))
    other.pre_tokenizer = pre_tokenizers.Whitespace()
    assert same_tokens(other)("An  Oak") == "An  Oak"
