"""`lorestream keys`: its verbs and their options. `key_file` does the work."""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; help must be instant)

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Optional

import typer

from lorestream.access.key_file import KeyScope
from lorestream.cli import options
from lorestream.cli.options import AsJson, Yes
from lorestream.limits import is_tenant

keys = typer.Typer(
    no_args_is_help=True,
    help=(
        "The API keys: who may call the services, for which tenant, and what for.\n\n"
        "The services read the keys from the file in LORESTREAM_API_KEYS_FILE, and apply changes within two seconds."
        " Only keys of a tenant can read its memories."
    ),
)


class TenantScope(StrEnum):
    """What --scope takes. The scope operator crosses tenants, and has an option of its own."""

    INGEST = KeyScope.INGEST
    QUERY = KeyScope.QUERY
    ERASE = KeyScope.ERASE
    ADMIN = KeyScope.ADMIN


KeyFile = Annotated[
    Optional[Path],  # noqa: UP045 (typer reads it)
    typer.Option("--file", metavar="FILE", help="The key file. Default: LORESTREAM_API_KEYS_FILE."),
]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The part of the key before the dot.")]
Days = Annotated[
    Optional[int],  # noqa: UP045 (typer reads it)
    typer.Option(
        "--expires", metavar="DAYS", help="Days until the key expires. Default: never.", min=1, max=36_500
    ),
]


def _tenant(name: str) -> str:
    if not is_tenant(name):
        raise typer.BadParameter("a tenant has 1 to 64 characters of a-z, 0-9, _ and -")
    return name


@keys.command()
def create(
    tenant: Annotated[
        str,
        typer.Option(metavar="NAME", help="The tenant whose memories the key can reach.", callback=_tenant),
    ],
    scope: Annotated[
        Optional[list[TenantScope]],  # noqa: UP045 (typer reads it)
        typer.Option(
            help="What the key may do: write memories (ingest), read and search them (query), delete them (erase); list"
            " agents, search the whole tenant, watch, export and import it (admin). May be repeated.",
        ),
    ] = None,
    operator: Annotated[
        bool,
        typer.Option(
            "--operator",
            help="The key may do what concerns the machine or all tenants: snapshots, replay, alias, drop, dead letters,"
            " cache, export and import of everything. Give it to nobody but whoever runs the server.",
        ),
    ] = False,
    label: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A note for yourself, shown by `lorestream keys list`.")
    ] = None,
    expires: Days = None,
    file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Create a key and print it. It cannot be shown again: the file holds only a hash of the secret.

    A key may do what its scopes allow, and nothing more. A game server with the
    mod needs ingest, query and erase.

    \b
    Examples:
    lorestream keys create --tenant default --scope ingest --scope query --scope erase --label survival-1
    lorestream keys create --tenant default --scope query --expires 90 --file keys.json
    lorestream keys create --tenant default --operator --scope admin --label backups
    export LORESTREAM_API_KEY=$(lorestream keys create --tenant default --scope query)
    """
    from lorestream.cli.keys import key_file

    scopes = [KeyScope(name) for name in dict.fromkeys(scope or [])] + [KeyScope.OPERATOR] * operator
    if not scopes:
        raise typer.BadParameter(
            "say what the key may do: --scope (may be repeated), or --operator", param_hint="--scope"
        )
    key_file.create(file, tenant=tenant, scopes=scopes, label=label, expires_days=expires, as_json=as_json)


@keys.command()
def rotate(
    key_id: KeyId,
    expires: Days = None,
    revoke_old: Annotated[
        bool, typer.Option("--revoke-old", help="Revoke the old key at once, for example after a leak.")
    ] = False,
    yes: Yes = False,
    dry_run: Annotated[bool, options.dry_run("Only print what would be done. Changes nothing.")] = False,
    file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Create a key with the same tenant, scopes and label as another one, and print it.

    The old key stays valid, so that no caller fails: replace it where it is
    used, then revoke it. Without --expires, the new key lives as long as the
    old one did.

    \b
    Examples:
    lorestream keys rotate 6f0c2d41a9e7
    lorestream keys revoke 6f0c2d41a9e7 --yes
    """
    from lorestream.cli.keys import key_file

    if dry_run:
        key_file.show_rotation(file, key_id, revoke_old=revoke_old, as_json=as_json)
        return
    key_file.rotate(file, key_id, expires_days=expires, revoke_old=revoke_old, yes=yes, as_json=as_json)


@keys.command()
def revoke(
    key_id: KeyId,
    yes: Yes = False,
    dry_run: Annotated[bool, options.dry_run("Only print what would be revoked. Changes nothing.")] = False,
    file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key. This cannot be undone. Its entry stays in the file, so that its id is never used again.

    \b
    Examples:
    lorestream keys revoke 6f0c2d41a9e7 --dry-run
    lorestream keys revoke 6f0c2d41a9e7 --yes
    """
    from lorestream.cli.keys import key_file

    key_file.revoke(file, key_id, yes=yes, dry_run=dry_run, as_json=as_json)


@keys.command("list")
def list_keys(file: KeyFile = None, as_json: AsJson = False) -> None:
    """List all keys: tenant, scopes, state and expiry. Secrets are not stored, and not shown.

    \b
    Examples:
    lorestream keys list
    lorestream keys list --file keys.json --json
    """
    from lorestream.cli.keys import key_file

    key_file.show(file, as_json=as_json)
