"""`lorestream config show`: every setting, its value, and where the value comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
from pydantic import SecretStr
from pydantic_settings import DotEnvSettingsSource

from lorestream.cli import options, terminal
from lorestream.settings import Settings, load_settings
from lorestream.settings.aliases import environment, of_kubernetes, other_names
from lorestream.settings.load import IMPLIED_KINDS
from lorestream.settings.unread import of_clients, unknown

_CLIENT = {"LORESTREAM_URL": options.LOCAL, "LORESTREAM_QUERY_URL": None, "LORESTREAM_API_KEY": None}
_SECRETS = {"LORESTREAM_API_KEY"}
HIDDEN = "(hidden)"
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting and its value.

    `origin`: "default", "environment NAME", "alias NAME", ".env", ".env NAME" for an alias or a file of a secret, or
    "command line" for an option of the verb.
    """

    name: str
    value: str | float | bool | None
    origin: str


def show(*, as_json: bool) -> None:
    """Print all settings: those of the services, then those of the command line. Raises Misconfigured.

    Notes name the variables with the prefix LORESTREAM_ that have no effect.
    """
    if mistaken := unknown(environment(Path(".env"))):
        terminal.print_note(
            f"these variables have no effect, there are no such settings: {', '.join(mistaken)}"
        )
    if ignored := of_clients():
        terminal.print_note(f"these variables have no effect in .env: {', '.join(ignored)}")
    found = [*effective(os.environ), *_client_settings(os.environ)]
    if as_json:
        terminal.print_json({"settings": found})
        return
    rows = [(s.name, "-" if s.value is None else str(s.value), s.origin) for s in found]
    terminal.print_table({"setting": "", "value": "", "from": ""}, rows)


def effective(environ: Mapping[str, str], used: Settings | None = None) -> list[Setting]:
    """The settings of the services, as `environ` and .env give them. Raises Misconfigured for an invalid value.

    `used`: the settings of a running process; where these differ, an option of its verb has set them.
    """
    loaded = load_settings()
    given = dict(_leaves(loaded.model_dump(), ()))
    from_file = {name.upper(): text or "" for name, text in DotEnvSettingsSource(Settings).env_vars.items()}
    origins = _Origins(
        {name.upper(): text for name, text in environ.items() if text and not of_kubernetes(name, text)},
        from_file,
        distributed=loaded.distributed,
    )
    return [
        Setting(
            _name(path),
            _printable(value),
            origins.of(path) if given.get(path) == value else "command line",
        )
        for path, value in (given if used is None else dict(_leaves(used.model_dump(), ()))).items()
    ]


def _leaves(value: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, part in value.items():
        if isinstance(part, Mapping):
            yield from _leaves(cast("Mapping[str, Any]", part), (*path, name))
        else:
            yield (*path, name), part


class _Origins:
    """Where the values of settings come from."""

    def __init__(self, given: Mapping[str, str], from_file: Mapping[str, str], *, distributed: bool) -> None:
        """`given`: the environment; `from_file`: the variables of `.env`. Names in upper case."""
        self._given = given
        self._from_file = from_file
        self._distributed = distributed
        self._others = {one.path: one.variables for one in other_names({**from_file, **given})}

    def of(self, path: tuple[str, ...]) -> str:
        """The origin of a setting. For a kind that nobody has set, that of what implies it, such as an address."""
        direct = self._direct(path)
        if direct != DEFAULT or path[-1] != "kind" or path[0] not in IMPLIED_KINDS:
            return direct
        implying = self._direct((path[0], IMPLIED_KINDS[path[0]][0]))
        if implying == DEFAULT and path[0] == "cache" and self._distributed:
            return self.of(("log", "kind"))  # with the Kafka log there is no cache by default
        return implying

    def _direct(self, path: tuple[str, ...]) -> str:
        if (name := _variable_with(path, self._given)) is not None:
            return f"environment {name}"
        variables = self._others.get(path, ())
        in_environment = [name for name in variables if name in self._given]
        if in_environment:
            return f"{'environment' if variables[0].endswith('_FILE') else 'alias'} {variables[0]}"
        if _variable_with(path, self._from_file) is not None:
            return ".env"
        return f".env {variables[0]}" if variables else DEFAULT


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
        if environ.get(name):
            value = HIDDEN if name in _SECRETS else _without_secrets(environ[name])
            yield Setting(name, value, f"environment {name}")
        elif name in _SECRETS and environ.get(f"{name}_FILE"):
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
