"""`lorestream hooks`: its verbs and their options. `calls` does the work."""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; help must be instant)

from __future__ import annotations

from typing import Annotated, Optional

import typer

from lorestream.cli import options
from lorestream.cli.options import LOCAL, AsJson, Url, Yes

hooks = typer.Typer(
    no_args_is_help=True,
    help=(
        "Webhooks: addresses that get memories as they become findable.\n\n"
        "Each request is signed, and sent again until it is answered with 2xx. A webhook that fails for a day is set"
        " aside until `lorestream hooks resume`. Where there are keys, the scope admin is needed."
    ),
)

HookId = Annotated[
    str, typer.Argument(metavar="ID", help="The id of the webhook, as `lorestream hooks ls` shows it.")
]
Names = Optional[list[str]]  # noqa: UP045 (typer reads it)


@hooks.command()
def create(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Where the memories go: http:// or https://.")
    ],
    agent: Annotated[
        Names, typer.Option(metavar="AGENT", help="Only memories of this agent. May be repeated.")
    ] = None,
    player: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only memories about this player.")
    ] = None,
    kind: Annotated[
        Names,
        typer.Option(
            "--type", metavar="TYPE", help="Only this type; sends its records, too. May be repeated."
        ),
    ] = None,
    min_importance: Annotated[
        float,
        typer.Option(
            help="Only memories of at least this importance.", min=0, max=10, callback=options.finite
        ),
    ] = 0.0,
    secret_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A file with the secret of the signatures; - reads stdin. Default: one is made.",
        ),
    ] = None,
    url: Url = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Let an address get memories, from now on. Prints the secret if it was made, once.

    \b
    Examples:
    lorestream hooks create https://example.com/in --type chat --type trade
    lorestream hooks create http://127.0.0.1:9000/ --agent npc:smith
    """
    from lorestream.cli.hooks import calls

    given = {
        "agent_id": agent or None,
        "player": player,
        "type": kind or None,
        "min_importance": min_importance or None,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    calls.create(url, address, wanted, secret_file, as_json=as_json)


@hooks.command()
def ls(url: Url = LOCAL, as_json: AsJson = False) -> None:
    """List the webhooks, with their state and last error.

    \b
    Example:
    lorestream hooks ls
    """
    from lorestream.cli.hooks import calls

    calls.ls(url, as_json=as_json)


@hooks.command()
def rm(
    hook: HookId,
    yes: Yes = False,
    dry_run: Annotated[bool, options.dry_run("Only print what would be removed. Changes nothing.")] = False,
    url: Url = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Remove a webhook. It gets nothing more, but what is on its way.

    \b
    Example:
    lorestream hooks rm 4d0f8d5e-7a4e-4e0e-8a1c-7c5f4f9f3f0b --yes
    """
    from lorestream.cli.hooks import calls

    calls.rm(url, hook, yes=yes, dry_run=dry_run, as_json=as_json)


@hooks.command()
def resume(hook: HookId, url: Url = LOCAL, as_json: AsJson = False) -> None:
    """Let a webhook that was set aside go on where it stood, as far back as the log reaches.

    \b
    Example:
    lorestream hooks resume 4d0f8d5e-7a4e-4e0e-8a1c-7c5f4f9f3f0b
    """
    from lorestream.cli.hooks import calls

    calls.resume(url, hook, as_json=as_json)


@hooks.command("test")
def attempt(hook: HookId, url: Url = LOCAL, as_json: AsJson = False) -> None:
    """Send a signed request without memories, and print the answer. Exit code 1 unless it is 2xx.

    \b
    Example:
    lorestream hooks test 4d0f8d5e-7a4e-4e0e-8a1c-7c5f4f9f3f0b
    """
    from lorestream.cli.hooks import calls

    calls.attempt(url, hook, as_json=as_json)
