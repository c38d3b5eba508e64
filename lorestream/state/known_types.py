"""Document types whose known fields are checked: `character` and `encoder`. Other fields, and other types, are free.

Null counts as missing: in a `put` the field is kept as null, in a merge patch it removes the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Struct

from lorestream.errors import InvalidRequest

_Count: TypeAlias = Annotated[float, Meta(ge=1, le=2**31, multiple_of=1)]
_Index: TypeAlias = Annotated[float, Meta(ge=0, le=2**31, multiple_of=1)]
_Ratio: TypeAlias = Annotated[float, Meta(ge=0)]
_Words: TypeAlias = "str | list[Any] | dict[str, Any] | None"
"""What describes a character: a text, a list, or an object. Not a number."""


class Character(Struct):
    """The state of a character. The tick of the document is the present one."""

    name: str | None = None
    personality: _Words = None
    beliefs: _Words = None
    goals: _Words = None
    last_decision_time: float | None = None


Features: TypeAlias = tuple[_Index, _Index, _Ratio]
"""[start, end, compression]: the inputs from `start` up to `end`, and by how much they are compressed."""


class FeatureGroups(Struct):
    """The inputs of an encoder by group."""

    critical: Features | None = None
    spatial: Features | None = None
    social: Features | None = None
    other: Features | None = None


class Encoder(Struct):
    """The configuration of an encoder."""

    input_dim: _Count | None = None
    latent_dim: _Count | None = None
    feature_groups: FeatureGroups | None = None
    base_compression_level: _Ratio | None = None


KNOWN: Mapping[str, type[Character | Encoder]] = {"character": Character, "encoder": Encoder}


def check(type_: str, data: Mapping[str, Any]) -> None:
    """Check the known fields of a document's data, or of a merge patch on it, as far as they are there.

    Raises InvalidRequest whose path begins with `data`.
    """
    kind = KNOWN.get(type_)
    if kind is None:
        return
    try:
        known = msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        raise InvalidRequest(
            f"{message} in a document of the type {type_}", path=f"data{path.rstrip('`')}"
        ) from error
    if isinstance(known, Encoder) and known.feature_groups is not None:
        for name, features in msgspec.structs.asdict(known.feature_groups).items():
            if features is not None and features[0] > features[1]:
                raise InvalidRequest(
                    f"[start, end, compression]: the start {features[0]:g} is behind the end {features[1]:g}",
                    path=f"data.feature_groups.{name}",
                )
