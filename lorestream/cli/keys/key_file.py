"""The work of `lorestream keys`. A secret is printed once, when its key is created, and is not stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import typer

from lorestream.access import key_file
from lorestream.access.key_file import ApiKey, KeyScope, NewKey
from lorestream.cli import terminal
from lorestream.settings import load_settings


def create(
    file: Path | None,
    *,
    tenant: str,
    scopes: Sequence[KeyScope],
    label: str | None,
    expires_days: int | None,
    as_json: bool,
) -> None:
    """Create a key and print it. Raises Misconfigured."""
    path = _path(file)
    found = path.exists()
    made = key_file.create(
        path,
        tenant=tenant,
        scopes=scopes,
        label=label,
        life=_lifetime(expires_days),
    )
    if not found:
        terminal.print_note(
            f"created {path}: set LORESTREAM_API_KEYS_FILE={path.absolute()} for the services"
        )
    _print_key(made, as_json=as_json)


def rotate(
    file: Path | None,
    key_id: str,
    *,
    expires_days: int | None,
    revoke_old: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Create a key like `key_id` and print it. Raises Misconfigured."""
    path = _path(file)
    if revoke_old:
        old = _text(key_file.find(path, key_id))
        terminal.confirm(f"Revoke the key {old} at once? Callers that still use it get 401.", yes=yes)
    made = key_file.rotate(path, key_id, life=_lifetime(expires_days), revoke_old=revoke_old)
    if revoke_old:
        terminal.print_note(f"{key_id} is revoked")
    else:
        terminal.print_note(
            f"{key_id} stays valid; when no caller uses it any more: lorestream keys revoke {key_id} --yes"
        )
    _print_key(made, as_json=as_json)


def show_rotation(file: Path | None, key_id: str, *, revoke_old: bool, as_json: bool) -> None:
    """Print which key `rotate` would create another one of. Raises Misconfigured, as that does."""
    key = key_file.rotatable(_path(file), key_id)
    if as_json:
        terminal.print_json({"dry_run": True, **_fields(key)})
        return
    revoked = " and revoke it at once" if revoke_old else ""
    terminal.print_line(f"would create another key like {_text(key)}{revoked}; nothing was changed")


def revoke(file: Path | None, key_id: str, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Revoke a key. Raises Misconfigured."""
    path = _path(file)
    key = key_file.find(path, key_id)
    was_revoked = key.revoked is not None
    if not was_revoked and not dry_run:
        terminal.confirm(f"Revoke the key {_text(key)}? Callers that still use it get 401.", yes=yes)
        key = key_file.revoke(path, key_id)
    if as_json:
        terminal.print_json({"dry_run": dry_run, **_fields(key)})
    elif was_revoked:
        terminal.print_line(f"{key_id} was revoked already")
    elif dry_run:
        terminal.print_line(f"would revoke {_text(key)}; nothing was changed")
    else:
        terminal.print_line(f"revoked {_text(key)}; running services apply it within two seconds")


def show(file: Path | None, *, as_json: bool) -> None:
    """Print all keys, without secrets and hashes."""
    path = _path(file)
    _, found = key_file.read(path)
    if as_json:
        terminal.print_json({"file": str(path), "keys": [_fields(key) for key in found]})
        return
    rows = [
        (
            key.id,
            key.state(datetime.now(UTC)),
            key.tenant,
            " ".join(key.scopes),
            _date(key.created),
            _date(key.expires),
            key.label or "-",
        )
        for key in found
    ]
    if rows:
        names = ("id", "state", "tenant", "scopes", "created", "expires", "label")
        terminal.print_table(dict.fromkeys(names, ""), rows)
    terminal.print_note(f"{len(rows)} key{'' if len(rows) == 1 else 's'} in {path}")


def _path(file: Path | None) -> Path:
    chosen = file or load_settings().api_keys_file
    if chosen is None:
        raise typer.BadParameter("no key file: give --file, or set LORESTREAM_API_KEYS_FILE")
    return chosen


def _lifetime(days: int | None) -> timedelta | None:
    return None if days is None else timedelta(days=days)


def _print_key(made: NewKey, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json({"key": made.credential, **_fields(made.key)})
        return
    terminal.print_line(made.credential)
    terminal.print_note(
        "store it now: it cannot be shown again. Use it as LORESTREAM_API_KEY, or lorestream.api_key of the mod"
    )


def _fields(key: ApiKey) -> dict[str, object]:
    """All fields for printing, without the hash: it is of no use to people, and looks like a secret."""
    return {
        "id": key.id,
        "state": key.state(datetime.now(UTC)),
        "tenant": key.tenant,
        "scopes": list(key.scopes),
        "label": key.label,
        "created": key.created,
        "expires": key.expires,
        "revoked": key.revoked,
    }


def _text(key: ApiKey) -> str:
    label = "" if key.label is None else f" ({key.label})"
    return f"{key.id}{label} of tenant {key.tenant}"


def _date(moment: datetime | None) -> str:
    return "-" if moment is None else moment.astimezone(UTC).date().isoformat()
