"""The texts that a model reads before a query and before a passage, because it was trained with them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from lorestream.ports import Role

CONFIG: Final = "config_sentence_transformers.json"
"""The file of sentence-transformers that holds a model's own prefixes, under `prompts`."""

_PASSAGE_NAMES = ("passage", "document")
_E5 = re.compile(r"(multilingual-)?e5-(small|base|large)(-v2)?", re.IGNORECASE)
"""The models of Wang et al. 2022 (https://arxiv.org/abs/2212.03533), whose files on the hub do not hold the prefixes."""


class Prefixes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One prefix for each role, "" for none."""

    query: str = ""
    passage: str = ""

    def of(self, role: Role) -> str:
        """The prefix of a text with that role."""
        return self.query if role is Role.QUERY else self.passage

    @property
    def fingerprint(self) -> str:
        """Eight hex digits that differ between prefixes; "" without any. Belongs to the identity of a vector space."""
        if not (self.query or self.passage):
            return ""
        return hashlib.sha256(f"{self.query}\0{self.passage}".encode()).hexdigest()[:8]


NO_PREFIXES: Final = Prefixes()


def of_model(name: str, prompts: Mapping[str, str]) -> Prefixes:
    """The prefixes of a model: those of its own file, else those that its family is known for, else none.

    `prompts`: by name, as sentence-transformers has them; it writes empty ones for a model that has none.
    """
    passage = next((prompts[one] for one in _PASSAGE_NAMES if prompts.get(one)), "")
    own = Prefixes(prompts.get("query") or "", passage)
    if own != NO_PREFIXES:
        return own
    return Prefixes("query: ", "passage: ") if _E5.fullmatch(name.rsplit("/", 1)[-1]) else NO_PREFIXES
