"""`lorestream config show`: every setting, its value, and where the value comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from pydantic import SecretStr
from pydantic_settings import DotEnvSettingsSource

from lorestream.cli import options, terminal
from lorestream.settings import ALIASES, Settings, load_settings

_CLIENT = {"LORESTREAM_URL": options.LOCAL, "LORESTREAM_QUERY_URL": None, "LORESTREAM_API_KEY": None}
_SECRETS = {"LORESTREAM_API_KEY"}
HIDDEN = "(hidden)"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting and its value. `origin`: "default", "environment NAME", "alias NAME" or ".env"."""

    name: str
    value: str | float | bool | None
    origin: str


def show(*, as_json: bool) -> None:
    """Print all settings: those of the services, then those of the command line. Raises Misconfigured."""
    found = [*effective(os.environ), *_client_settings(os.environ)]
    if as_json:
        terminal.print_json({"settings": found})
        return
    rows = [(s.name, "-" if s.value is None else str(s.value), s.origin) for s in found]
    terminal.print_table({"setting": "", "value": "", "from": ""}, rows)


def effective(environ: Mapping[str, str]) -> list[Setting]:
    """The settings of the services, as `environ` and .env give them. Raises Misconfigured for an invalid value."""
    loaded = load_settings()
    from_file = {name.upper(): text or "" for name, text in DotEnvSettingsSource(Settings).env_vars.items()}
    given = {name.upper(): text for name, text in environ.items()}
    return [
        Setting(_name(path), _printable(value), _origin(path, given, from_file))
        for path, value in _leaves(loaded.model_dump(), ())
    ]


def _leaves(value: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, part in value.items():
        if isinstance(part, Mapping):
            yield from _leaves(cast("Mapping[str, Any]", part), (*path, name))
        else:
            yield (*path, name), part


def _origin(path: tuple[str, ...], given: Mapping[str, str], from_file: Mapping[str, str]) -> str:
    if (name := _variable_with(path, given)) is not None:
        return f"environment {name}"
    for alias, target in ALIASES.items():
        if target == path and alias in given:
            return f"alias {alias}"
    if (name := f"{_name(path)}_FILE") in given:
        return f"environment {name}"
    return ".env" if _variable_with(path, from_file) is not None else "default"


def _variable_with(path: tuple[str, ...], given: Mapping[str, str]) -> str | None:
    """The variable that sets `path`: its own, or that of a group as one JSON object. None if it is not set."""
    if _name(path) in given:
        return _name(path)
    for length in range(len(path) - 1, 0, -1):
        try:
            part: Any = msgspec.json.decode(given.get(_name(path[:length]), "null"))
        except msgspec.DecodeError:
            continue
        for key in path[length:]:
            part = cast("Mapping[str, Any]", part).get(key) if isinstance(part, Mapping) else None
        if part is not None:
            return _name(path[:length])
    return None


def _client_settings(environ: Mapping[str, str]) -> Iterator[Setting]:
    for name, default in _CLIENT.items():
        if name in environ:
            value = HIDDEN if name in _SECRETS else _without_secrets(environ[name])
            yield Setting(name, value, f"environment {name}")
        elif name in _SECRETS and f"{name}_FILE" in environ:
            yield Setting(name, HIDDEN, f"environment {name}_FILE")
        else:
            yield Setting(name, default, "default")


def _name(path: tuple[str, ...]) -> str:
    return "LORESTREAM_" + "__".join(path).upper()


def _printable(value: object) -> str | float | bool | None:
    if isinstance(value, SecretStr):
        return HIDDEN
    if value is None or isinstance(value, int | float | bool):
        return value
    return _without_secrets(str(value))


def _without_secrets(text: str) -> str:
    """The text; the login and the query of an address, which may be secret, are replaced."""
    if "://" not in text:
        return text
    scheme, _, rest = text.partition("://")
    _, at, host = rest.rpartition("@")
    address, question_mark, _ = host.partition("?")
    return f"{scheme}://{HIDDEN + at if at else ''}{address}{'?' + HIDDEN if question_mark else ''}"
