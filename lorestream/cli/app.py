"""All verbs, and the options of those without a module for them.

What they do lies beside, imported when a verb runs: help must be instant.
"""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; the rest: see above)

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lorestream.cli import options
from lorestream.cli.admin.collections import alias, cache, drop, replay
from lorestream.cli.admin.dead_letters import dlq
from lorestream.cli.admin.exports import export, import_
from lorestream.cli.admin.snapshots import restore, snapshot
from lorestream.cli.keys.commands import keys
from lorestream.cli.memories.commands import agents, erase, put, recent, search, tail
from lorestream.cli.options import LOCAL, AsJson, DataDir, QueryUrl
from lorestream.cli.serve.commands import gateway, query, up, worker
from lorestream.cli.simulate.command import simulate

app = typer.Typer(
    name="lorestream",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Memory for game agents: what happens in a world becomes memories that can be asked for.\n\n"
        "Start with [bold]lorestream up[/], then, beside it, [bold]lorestream demo[/]."
    ),
    epilog="Exit codes: 0 done, 1 a fault, 2 wrong usage, 3 unhealthy. Every verb that prints data takes --json.",
)
model_verbs = typer.Typer(no_args_is_help=True, help="The embedding model.")
config_verbs = typer.Typer(no_args_is_help=True, help="The settings.")
mod_verbs = typer.Typer(no_args_is_help=True, help="The Luanti mod.")


def _version(wanted: bool) -> None:
    if wanted:
        from lorestream import __version__

        typer.echo(f"lorestream {__version__}")
        raise typer.Exit


@app.callback()
def lorestream(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What stands before every verb."""


for verb in (up, gateway, worker, query):
    app.command(rich_help_panel="Run")(verb)
app.command("simulate", rich_help_panel="Run")(simulate)
for verb in (put, search, recent, agents, tail, erase):
    app.command(rich_help_panel="By hand")(verb)


@app.command(rich_help_panel="Run")
def demo(
    seed: Annotated[int, typer.Option(help="Another seed is another village.")] = 1,
    questions: Annotated[int, typer.Option("-n", "--questions", help="How many are asked.", min=0)] = 12,
    url: Annotated[str, options.url("The lorestream to play into.")] = LOCAL,
    query_url: QueryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Play a simulated village into a running lorestream, then ask its people.

    A few hundred events of a day in a village go through the gateway like those of a game; then questions are
    asked and the memories that answer them shown, with scores and times. Playing it again adds nothing.

    \b
    lorestream up        (in another terminal)
    lorestream demo
    """
    from lorestream.cli.memories import demo

    demo.play(url, query_url, seed=seed, questions=questions, as_json=as_json)


# --- care ----------------------------------------------------------------------------------------------------

CARE = "Care"


@app.command(rich_help_panel=CARE)
def doctor(
    wait: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Wait until a lorestream is ready, at most so long.", min=0),
    ] = None,
    world: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A Luanti world whose set-up is checked too.")
    ] = None,
    conf: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The Luanti server's configuration file.")
    ] = None,
    canary: Annotated[bool, typer.Option(help="Write a memory that lives a minute, and find it.")] = True,
    data: DataDir = None,
    url: Annotated[str, options.url("The lorestream to look at.")] = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Check everything that Lorestream needs, and say how to mend what is wrong.

    Ends with 3 when something is. With --wait, a lorestream has to be running: a container's health check.

    \b
    lorestream doctor
    lorestream doctor --wait 30 --no-canary
    lorestream doctor --world ~/.minetest/worlds/home
    """
    from lorestream.cli.doctor import report

    healthy = report.run(
        report.Subject(url=url, data_dir=data, world=world, conf=conf),
        wait_s=wait,
        canary=canary,
        as_json=as_json,
    )
    if not healthy:
        raise typer.Exit(3)


@config_verbs.command("show")
def config_show(as_json: AsJson = False) -> None:
    """Show every setting, what it is, and where that comes from. Secrets stay hidden.

    \b
    lorestream config show
    LORESTREAM_TTL_DAYS=7 lorestream config show --json
    """
    from lorestream.cli.setup import settings

    settings.show(as_json=as_json)


@model_verbs.command("prepare")
def model_prepare(
    model: Annotated[str | None, typer.Option(help="Its name on the hub, or a directory.")] = None,
    models_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to put it. Default: LORESTREAM_MODELS_DIR.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch or export the embedding model, once. Ends with 3 when something must be installed first.

    \b
    lorestream model prepare
    lorestream model prepare --model BAAI/bge-small-en-v1.5
    """
    from lorestream.cli.setup.model import prepare

    if not prepare(model, models_dir, as_json=as_json):
        raise typer.Exit(3)


@mod_verbs.command("install")
def mod_install(
    world: Annotated[
        Path, typer.Argument(metavar="WORLD_DIR", help="The world: the folder that holds world.mt.")
    ],
    conf: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The server's configuration file, if not found by itself."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is not ours.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put the Luanti mod into a world, or update it, and print the one line of configuration it needs.

    \b
    lorestream mod install ~/.minetest/worlds/home
    """
    from lorestream.cli.setup import luanti

    luanti.install(world, conf, force=force, as_json=as_json)


for verb in (snapshot, restore):
    app.command(rich_help_panel=CARE)(verb)
for verb in (replay, drop):
    app.command(rich_help_panel=CARE)(verb)
app.add_typer(alias, name="alias", rich_help_panel=CARE)
app.add_typer(cache, name="cache", rich_help_panel=CARE)
app.command("export", rich_help_panel=CARE)(export)
app.command("import", rich_help_panel=CARE)(import_)
app.add_typer(dlq, name="dlq", rich_help_panel=CARE)
app.add_typer(keys, name="keys", rich_help_panel=CARE)
app.add_typer(model_verbs, name="model", rich_help_panel=CARE)
app.add_typer(config_verbs, name="config", rich_help_panel=CARE)
app.add_typer(mod_verbs, name="mod", rich_help_panel=CARE)
