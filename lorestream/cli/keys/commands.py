"""`lorestream keys`: its verbs and their options. What they do lies in `key_file`."""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; help must be instant)

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Optional

import typer

from lorestream.access.key_file import KeyScope
from lorestream.cli import options
from lorestream.cli.options import AsJson, Yes

keys = typer.Typer(
    no_args_is_help=True,
    help=(
        "The API keys: who may call, for which tenant, to do what.\n\n"
        "Services read them from the file that LORESTREAM_API_KEYS_FILE names, and follow its changes within a second"
        " or two. A tenant's memories are seen by its own keys only."
    ),
)

KeyFile = Annotated[
    Optional[Path],  # noqa: UP045 (typer reads it)
    typer.Option("--file", metavar="FILE", help="The key file. Default: LORESTREAM_API_KEYS_FILE."),
]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The part of the key before the dot.")]
Days = Annotated[
    Optional[int],  # noqa: UP045 (typer reads it)
    typer.Option("--expires", metavar="DAYS", help="Days until it is no longer valid.", min=1, max=36_500),
]


def _tenant(name: str) -> str:
    if re.fullmatch(r"[a-z0-9_-]{1,64}", name) is None:
        raise typer.BadParameter("1 to 64 of a-z, 0-9, _ and -")
    return name


@keys.command()
def create(
    tenant: Annotated[str, typer.Option(metavar="NAME", help="Whose memories it reaches.", callback=_tenant)],
    scope: Annotated[
        list[KeyScope],
        typer.Option(
            help="What it may do: write memories (ingest), ask for them (query), delete them (erase), list"
            " agents, search the whole tenant and watch (admin). May be given several times."
        ),
    ],
    label: Annotated[str | None, typer.Option(metavar="TEXT", help="What you will know it by.")] = None,
    expires: Days = None,
    file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once: the file holds only a hash of its secret.

    A key does what its scopes say and nothing more. A game server with the mod needs ingest, query and erase.

    \b
    lorestream keys create --tenant default --scope ingest --scope query --scope erase --label survival-1
    lorestream keys create --tenant default --scope query --expires 90 --file keys.json
    export LORESTREAM_API_KEY=$(lorestream keys create --tenant default --scope query)
    """
    from lorestream.cli.keys import key_file

    key_file.create(file, tenant=tenant, scopes=scope, label=label, expires_days=expires, as_json=as_json)


@keys.command()
def rotate(
    key_id: KeyId,
    expires: Days = None,
    revoke_old: Annotated[
        bool, typer.Option("--revoke-old", help="Close the old one at once, as after a leak.")
    ] = False,
    yes: Yes = False,
    file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make another key with the same tenant, scopes and label, and print it.

    The old one stays valid, so that nothing stops: give the new one to whoever sends the old one, then revoke
    that. Without --expires the new one lives as long as the old one was given.

    \b
    lorestream keys rotate 6f0c2d41a9e7
    lorestream keys revoke 6f0c2d41a9e7 --yes
    """
    from lorestream.cli.keys import key_file

    key_file.rotate(file, key_id, expires_days=expires, revoke_old=revoke_old, yes=yes, as_json=as_json)


@keys.command()
def revoke(
    key_id: KeyId,
    yes: Yes = False,
    dry_run: Annotated[bool, options.dry_run("Only say what would be closed.")] = False,
    file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Close a key for good. Its line stays in the file, so that the id is never used again.

    \b
    lorestream keys revoke 6f0c2d41a9e7 --dry-run
    lorestream keys revoke 6f0c2d41a9e7 --yes
    """
    from lorestream.cli.keys import key_file

    key_file.revoke(file, key_id, yes=yes, dry_run=dry_run, as_json=as_json)


@keys.command("list")
def list_keys(file: KeyFile = None, as_json: AsJson = False) -> None:
    """List the keys: what they may do, until when. No secrets, for nothing has them.

    \b
    lorestream keys list
    lorestream keys list --file keys.json --json
    """
    from lorestream.cli.keys import key_file

    key_file.show(file, as_json=as_json)
