"""Generates the text of a memory from the type and data of an event. Pure functions.

A text never has a player's name: it says "a player", whatever the data contain.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

_MAX_VALUE_CHARS = 200
_MAX_DETAILS = 12
_NAMES = re.compile(r"(?:^|_)(?:player|name|user|owner|puncher|killer|attacker|victim)(?:_|$)")
"""Keys whose values may be player names: they are left out."""
_STACK = re.compile(r"(?P<item>\w+:\w+)(?: (?P<count>\d{1,5})(?: \d{1,5}(?: .*)?)?)?", re.DOTALL)

_PHRASES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    # type: (verb, the keys of the data that may have its object, in this order)
    "dig": ("dug", ("node", "item")),
    "chop": ("chopped", ("node", "item", "resource")),
    "mine": ("mined", ("node", "item", "resource")),
    "place": ("placed", ("node", "item")),
    "craft": ("crafted", ("item", "output")),
    "eat": ("ate", ("item",)),
    "pickup": ("picked up", ("item",)),
    "drop": ("dropped", ("item",)),
    "explore": ("explored", ("place", "zone", "biome")),
    "find": ("found", ("item", "node", "place", "resource")),
    "build": ("built", ("what", "structure", "node")),
}


def narrate(kind: str, data: Mapping[str, Any], *, by_player: bool) -> str:
    """The text for an event of type `kind`.

    For "dig" and {"node": "default:tree", "count": 3} it is "dug 3 tree". `by_player`: whether a player did it or was
    affected; then the text begins with "a player".
    """
    special = _SPECIAL.get(kind)
    if special is not None:
        sentence = special(data)
    elif kind in _PHRASES:
        sentence = _phrase(kind, data)
    else:
        sentence = (words(kind) or "did something") + _details(data, skip=())
    return f"a player {sentence}" if by_player else sentence


def without_names(
    kind: str, data: Mapping[str, Any], names: Collection[str]
) -> tuple[str, Mapping[str, Any]]:
    """The type and the data of an event with "a player" for each of the names, in a key or a text at any depth.

    A name is replaced as a whole word, also in the form that `words` gives it, and composed or decomposed (Unicode's NFC,
    NFD). At a letter without case the word need not end: the scripts of such letters put no spaces between words, or
    write particles to a name. A type with a phrase of its own stays. Equal to the arguments if they have no name.
    """
    has_phrase = kind in _SPECIAL or kind in _PHRASES
    content = "\0".join(_strings(data if has_phrase else [kind, data]))
    # Most names do not occur, and a pattern costs much more than this look.
    forms = {form for name in names for form in _forms(name) if form and form in content}
    if not forms:
        return kind, data
    name = _whole_words(forms)
    return kind if has_phrase else _replace_in(kind, name), _replace_in(data, name)


def _forms(name: str) -> set[str]:
    """The name as it may stand in a text."""
    forms = {name, words(name)}
    if name.isascii():
        return forms
    return forms | {unicodedata.normalize(how, form) for form in forms for how in ("NFC", "NFD")}


def _strings(value: Any) -> Iterator[str]:  # noqa: ANN401 (any JSON value)
    """Every text in the value, and every key."""
    match value:
        case str():
            yield value
        case dict():
            for key, part in value.items():
                yield key
                yield from _strings(part)
        case list():
            for part in value:
                yield from _strings(part)
        case _:
            pass


def _whole_words(names: Collection[str]) -> re.Pattern[str]:
    """The pattern of the names that are words of their own, the longest first; `player:` before a name belongs to it.

    What precedes a word is looked at once for all names: at each character of a text for each of 64 names takes long.
    """
    apart, anywhere = list[str](), list[str]()
    for name in sorted(names, key=len, reverse=True):
        one = re.escape(name) + ("" if unicodedata.category(name[-1]) == "Lo" else r"(?![^\W_])")
        (anywhere if unicodedata.category(name[0]) == "Lo" else apart).append(one)
    each = "|".join([*apart, *anywhere])
    return re.compile(
        rf"(?<![^\W_])(?:player:)?(?:{each})" + (rf"|(?:{'|'.join(anywhere)})" if anywhere else "")
    )


def _replace_in(value: Any, name: re.Pattern[str]) -> Any:  # noqa: ANN401 (any JSON value)
    match value:
        case str():
            return name.sub("a player", value)
        case dict():
            return {_replace_in(key, name): _replace_in(part, name) for key, part in value.items()}
        case list():
            return [_replace_in(part, name) for part in value]
        case _:
            return value


def words(name: str) -> str:
    """The words of an identifier: `default:pine_tree` becomes "pine tree"."""
    stem = name.rpartition(":")[2] or name
    return " ".join(stem.replace("_", " ").replace("-", " ").split())


def _phrase(kind: str, data: Mapping[str, Any]) -> str:
    verb, keys = _PHRASES[kind]
    used = next((key for key in keys if isinstance(data.get(key), str) and data[key]), None)
    thing = _counted(data, data[used]) if used else "something"
    return f"{verb} {thing}" + _details(data, skip=(used or "", "count"))


def _counted(data: Mapping[str, Any], name: str) -> str:
    """The words of an item, with its count if that is not one. The count of the data goes before that of the stack."""
    item, amount = _item_stack(name)
    count = _count(data.get("count")) or amount
    return words(item) if count in {"", "1"} else f"{count} {words(item)}"


def _item_stack(text: str) -> tuple[str, str]:
    """(name, count) of an item stack of Luanti, "NAME COUNT WEAR METADATA" with all but the name optional.

    The count of a text that is no item stack is "".
    """
    match = _STACK.fullmatch(text)
    return (match["item"], match["count"] or "") if match else (text, "")


def _count(value: object) -> str:
    """A number, or the digits of one, as text; "" for anything else, such as true."""
    match value:
        case bool():
            return ""
        case int() | float():
            return _value(value)
        case str() if value.isascii() and value.isdigit():
            return value
        case _:
            return ""


def _details(data: Mapping[str, Any], *, skip: tuple[str, ...]) -> str:
    """The other fields of the data, in their order: ", tool steel axe". At most _MAX_DETAILS."""
    parts = [
        f", {words(key)} {text}"
        for key, value in data.items()
        if key not in skip and not _NAMES.search(key.lower()) and (text := _value(value))
    ]
    return "".join(parts[:_MAX_DETAILS])


def _value(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return str(value)
        case float():
            return f"{value:.6g}"
        case str():
            return (_counted({}, value) if _STACK.fullmatch(value) else value)[:_MAX_VALUE_CHARS]
        case list() | tuple():
            return " and ".join(text for item in value if (text := _value(item)))[:_MAX_VALUE_CHARS]
        case _:
            return ""


def _said(data: Mapping[str, Any]) -> str:
    message = next((data[key] for key in ("message", "text") if isinstance(data.get(key), str)), "")
    return f"said: {message}" if message else "said something"


def _damage(data: Mapping[str, Any]) -> str:
    amount = _count(data.get("amount", data.get("damage", data.get("hp"))))
    if data.get("source") == "player":
        return "hit me" + _weapon(data) + (f", {amount} health lost" if amount not in {"", "0"} else "")
    return f"lost {amount or 'some'} health" + _cause(data)


def _punch(data: Mapping[str, Any]) -> str:
    return _act("punched", data) + _times(data) + _weapon(data)


def _times(data: Mapping[str, Any]) -> str:
    times = _count(data.get("count"))
    return f" {times} times" if times not in {"", "0", "1"} else ""


def _kill(data: Mapping[str, Any]) -> str:
    rest = _details(data, skip=("target", "entity", "node", "by", "weapon", "count"))
    return _act("killed", data, counted=True) + _weapon(data) + rest


def _act(verb: str, data: Mapping[str, Any], *, counted: bool = False) -> str:
    """What was done to a target. `by` in the data: an agent did it to the player of the event."""
    target = _value(data.get("target", data.get("entity", data.get("node", ""))))
    if target == "player" and (by := _value(data.get("by", ""))):
        return f"was {verb} by {words(by)}"
    if target == "player":
        return f"{verb} another player"
    return f"{verb} {(_counted(data, target) if counted else words(target)) or 'something'}"


def _weapon(data: Mapping[str, Any]) -> str:
    weapon = _value(data.get("weapon", ""))
    return f" with {weapon}" if weapon else ""


def _death(data: Mapping[str, Any]) -> str:
    if data.get("source") == "player":
        return "killed me" + _weapon(data)
    return "died" + _cause(data)


def _cause(data: Mapping[str, Any]) -> str:
    cause = _value(data.get("reason", data.get("cause", "")))
    source = _value(data.get("source", data.get("node", data.get("entity", ""))))
    return (f" by {words(cause)}" if cause else "") + (f" from {source}" if source else "")


def _trade(data: Mapping[str, Any]) -> str:
    gave = _value(data.get("gave", data.get("give", data.get("item", ""))))
    got = _value(data.get("got", data.get("receive", data.get("price", ""))))
    rest = _details(data, skip=("gave", "give", "item", "got", "receive", "price", "count"))
    return f"traded {gave or 'something'}" + (f" for {got}" if got else "") + _times(data) + rest


def _store(data: Mapping[str, Any]) -> str:
    return f"put {_item(data)} into {_value(data.get('node', '')) or 'an inventory'}"


def _take(data: Mapping[str, Any]) -> str:
    return f"took {_item(data)} from {_value(data.get('node', '')) or 'an inventory'}"


def _move(data: Mapping[str, Any]) -> str:
    return f"moved {_item(data)}" + _way(data, keys=("from", "to"))


def _item(data: Mapping[str, Any]) -> str:
    item = data.get("item")
    return _counted(data, item) if isinstance(item, str) and item else "something"


def _zone(data: Mapping[str, Any]) -> str:
    return (
        "went"
        + _way({**data, "to": data.get("zone")}, keys=("from", "to"))
        + _details(data, skip=("from", "zone", "to"))
    )


def _way(data: Mapping[str, Any], *, keys: tuple[str, ...]) -> str:
    return "".join(f" {key} {text}" for key in keys if (text := _value(data.get(key, ""))))


def _interact(data: Mapping[str, Any]) -> str:
    target, item = _value(data.get("target", "")), _value(data.get("item", ""))
    other = "another player" if target == "player" else words(target) or "me"
    return f"interacted with {other}" + (f", holding {item}" if item else "")


def _me(data: Mapping[str, Any]) -> str:
    message = data.get("message")
    return message if isinstance(message, str) and message else "did something"


def _protection(data: Mapping[str, Any]) -> str:
    node = _value(data.get("node", ""))
    return "tried to change a protected place" + (f", node {node}" if node else "")


def _cheat(data: Mapping[str, Any]) -> str:
    return f"was reported for cheating: {words(_value(data.get('cheat', ''))) or 'no reason given'}"


def _respawn(_data: Mapping[str, Any]) -> str:
    return "came back to life"


def _join(_data: Mapping[str, Any]) -> str:
    return "joined the game"


def _leave(_data: Mapping[str, Any]) -> str:
    return "left the game"


_SPECIAL: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "chat": _said,
    "talk": _said,
    "me": _me,
    "punch": _punch,
    "kill": _kill,
    "damage": _damage,
    "death": _death,
    "respawn": _respawn,
    "trade": _trade,
    "store": _store,
    "take": _take,
    "move": _move,
    "interact": _interact,
    "zone": _zone,
    "protection": _protection,
    "cheat": _cheat,
    "join": _join,
    "leave": _leave,
}
