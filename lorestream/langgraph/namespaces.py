"""Translation between LangGraph's namespaces and agent ids.

The agent id of a namespace is its labels, joined by dots. A server hides the name of a player, and erases an agent with
its player, only where an agent id ends with `player:NAME`. So where a namespace of several labels has a player's label,
that label is moved to the end, behind its index: ("player:ann", "notes") is the agent `notes.0:player:ann`.

Servers list such agents under the player's pseudonym. Whether it is the pseudonym of a certain player, only a server
can say: the namespace with the plain name in its place is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from langgraph.store.base import InvalidNamespaceError, MatchCondition

from lorestream import limits
from lorestream.errors import InvalidRequest

Namespace: TypeAlias = tuple[str, ...]

_PLAYER = re.compile(r"(?P<prefix>(?:.*:)?player:).+", re.DOTALL)
_MOVED = re.compile(r"(?P<index>\d+):(?P<label>.+)", re.DOTALL)


def agent_of(namespace: Sequence[str]) -> str:
    """The agent id of a namespace. A label may not have a dot, and only one may be that of a player.

    Raises InvalidNamespaceError.
    """
    for label in namespace:
        if not isinstance(label, str) or not label or {".", "\0"} & {*label}:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidNamespaceError(
                f"a label of a namespace must be a string that is not empty, without dots and NUL: {namespace}"
            )
    if sum(_player_prefix(label) is not None for label in namespace) > 1:
        raise InvalidNamespaceError(f"a namespace can have one label of a player: {namespace}")
    agent_id = joined(namespace)
    try:
        limits.check_agent_id(agent_id)
    except InvalidRequest as error:
        raise InvalidNamespaceError(
            f"a namespace must have 1 to {limits.MAX_AGENT_ID_CHARS} characters, dots between labels included: {namespace}"
        ) from error
    return agent_id


def namespace_of(agent_id: str) -> Namespace | None:
    """The namespace of an agent id; None for an id that no namespace has, for example because a label is empty."""
    *labels, last = agent_id.split(".")
    moved = _MOVED.fullmatch(last) if labels else None
    if moved is not None and _player_prefix(moved["label"]) is not None:
        labels.insert(int(moved["index"]), moved["label"])
    else:
        labels.append(last)
    return tuple(labels) if all(labels) and "\0" not in agent_id and joined(labels) == agent_id else None


def named_below(namespace: Namespace, prefix: Namespace) -> Namespace | None:
    """The listed namespace with the labels of `prefix`, None if it is not below it.

    With a player in `prefix` the result may be a namespace that does not exist.
    """
    if len(namespace) <= len(prefix) or not all(map(_may_be, namespace, prefix)):
        return None
    return (*prefix, *namespace[len(prefix) :])


def named_by(namespace: Namespace, conditions: Sequence[MatchCondition]) -> Namespace | None:
    """The listed namespace with the labels that the conditions name, None if it does not match them.

    With a player in a condition the result may be a namespace that does not exist.
    """
    named = list(namespace)
    for condition in conditions:
        first = 0 if condition.match_type == "prefix" else len(namespace) - len(condition.path)
        if not 0 <= first <= len(namespace) - len(condition.path):
            return None
        for index, wanted in enumerate(condition.path, first):
            if wanted == "*":
                continue
            if not _may_be(named[index], wanted):
                return None
            named[index] = wanted
    return tuple(named)


def _may_be(label: str, wanted: str) -> bool:
    """Whether a listed label is the wanted one, or a pseudonym that may be that of the wanted player."""
    prefix = _player_prefix(wanted)
    return label == wanted or (prefix is not None and prefix == _player_prefix(label))


def _player_prefix(label: str) -> str | None:
    """What stands before the name in the label of a player, such as `player:`. None for any other label."""
    match = _PLAYER.fullmatch(label)
    return match and match["prefix"]


def joined(namespace: Sequence[str]) -> str:
    """The labels, joined by dots, a player's label last: the agent id of a namespace that is known to be valid."""
    players = [index for index, label in enumerate(namespace) if _player_prefix(label) is not None]
    if len(namespace) == 1 or not players:
        return ".".join(namespace)
    index = players[-1]
    return ".".join([*namespace[:index], *namespace[index + 1 :], f"{index}:{namespace[index]}"])
