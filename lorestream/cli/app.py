"""All verbs, and the options of doctor, demo, config, model and mod.

The modules that do the work are imported when a verb runs: help must be instant.
"""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; the rest: see above)

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from lorestream.cli import options
from lorestream.cli.admin.collections import alias, cache, drop, replay
from lorestream.cli.admin.dead_letters import dlq
from lorestream.cli.admin.exports import export, import_
from lorestream.cli.admin.snapshots import restore, snapshot
from lorestream.cli.hooks.commands import hooks
from lorestream.cli.keys.commands import keys
from lorestream.cli.memories.commands import agents, erase, put, recent, rewind, search, tail
from lorestream.cli.memories.corrections import relations, supersede
from lorestream.cli.options import LOCAL, AsJson, DataDir, QueryUrl
from lorestream.cli.serve.commands import gateway, query, up, worker
from lorestream.cli.serve.mcp import mcp
from lorestream.cli.simulate.command import simulate
from lorestream.cli.state.commands import records, state, summary

app = typer.Typer(
    name="lorestream",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Memory for game agents: events of a game world become memories that its agents can search.\n\n"
        "Start with [bold]lorestream up[/]; then run [bold]lorestream demo[/] in another terminal."
    ),
    epilog="Exit codes: 0 success, 1 error, 2 wrong usage, 3 unhealthy. Every verb that prints data takes --json.",
)
model_verbs = typer.Typer(
    no_args_is_help=True, help="The embedding model: prepare it before the first start."
)
config_verbs = typer.Typer(no_args_is_help=True, help="The settings: show their values and origins.")
mod_verbs = typer.Typer(no_args_is_help=True, help="The Luanti mod: install it into a world.")


def _version(wanted: bool) -> None:
    if wanted:
        from lorestream import __version__

        typer.echo(f"lorestream {__version__}")
        raise typer.Exit


@app.callback()
def lorestream(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the verb."""


for verb in (up, gateway, worker, query):
    app.command(rich_help_panel="Run")(verb)
app.command("simulate", rich_help_panel="Run")(simulate)
app.command("mcp", rich_help_panel="Run")(mcp)
for verb in (put, supersede, search, recent, relations, agents, tail, erase, rewind):
    app.command(rich_help_panel="Memories")(verb)
app.add_typer(state, name="state", rich_help_panel="State")
app.add_typer(hooks, name="hooks", rich_help_panel="Memories")
for verb in (records, summary):
    app.command(rich_help_panel="State")(verb)


@app.command(rich_help_panel="Run")
def demo(
    seed: Annotated[
        int, typer.Option(help="Seed of the village: another seed, other events and questions.")
    ] = 1,
    questions: Annotated[
        int, typer.Option("-n", "--questions", help="How many questions to ask.", min=0)
    ] = 12,
    url: Annotated[str, options.url("The server.")] = LOCAL,
    query_url: QueryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write a day in a simulated village to a running server, then ask questions about it.

    A few hundred events of the last 24 hours go through the gateway like those
    of a game. Then questions are asked, and the best memories are shown with scores and times.
    Running it again with the same seed adds nothing.

    \b
    Examples:
    lorestream up        (in another terminal)
    lorestream demo
    """
    from lorestream.cli.memories import demo

    demo.play(url, query_url, seed=seed, questions=questions, as_json=as_json)


# --- operation -----------------------------------------------------------------------------------------------

OPERATE = "Operate"


@app.command(rich_help_panel=OPERATE)
def doctor(
    wait: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Fail unless the server is ready within this time.", min=0),
    ] = None,
    world: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also check the mod in this Luanti world.")
    ] = None,
    conf: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The Luanti server's configuration file. Default: that of the running server, else where it looks.",
        ),
    ] = None,
    canary: Annotated[
        bool, typer.Option(help="Write a test memory that expires after a minute, and search it.")
    ] = True,
    data: DataDir = None,
    url: Annotated[
        Optional[str],  # noqa: UP045 (typer reads it)
        options.url(f"The server to check. Default: {LOCAL}, if one runs there."),
    ] = None,
    query_url: QueryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Check everything that Lorestream needs. Each failed check says how to fix it.

    Ends with 3 if a check fails. With --wait or an address, it also fails if no
    server answers: use that for health checks of containers.

    \b
    Examples:
    lorestream doctor
    lorestream doctor --wait 30 --no-canary
    lorestream doctor --world ~/.minetest/worlds/home
    """
    from lorestream.cli.doctor import report

    healthy = report.run(
        report.Target(url=url or LOCAL, query_url=query_url, data_dir=data, world=world, conf=conf),
        needed=wait is not None or url is not None or query_url is not None,
        wait_s=wait or 0,
        canary=canary,
        as_json=as_json,
    )
    if not healthy:
        raise typer.Exit(3)


@config_verbs.command("show")
def config_show(as_json: AsJson = False) -> None:
    """Show every setting, its value, and where the value comes from. Secrets are hidden.

    \b
    Examples:
    lorestream config show
    LORESTREAM_TTL_DAYS=7 lorestream config show --json
    """
    from lorestream.cli.setup import settings

    settings.show(as_json=as_json)


@model_verbs.command("prepare")
def model_prepare(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Its name on the Hugging Face hub, or a directory. Default: LORESTREAM_EMBEDDER__MODEL.",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The same as NAME.")] = None,
    models_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to put it. Default: LORESTREAM_MODELS_DIR.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Download the embedding model, or convert it, once. Ends with 3 if a package must be installed first.

    \b
    Examples:
    lorestream model prepare
    lorestream model prepare e5-small-v2
    """
    from lorestream.cli.setup.model import prepare

    if not prepare(name or model, models_dir, as_json=as_json):
        raise typer.Exit(3)


@mod_verbs.command("install")
def mod_install(
    world: Annotated[
        Path, typer.Argument(metavar="WORLD_DIR", help="The world: the directory with world.mt.")
    ],
    conf: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The server's configuration file. Default: that of the running server, else where it looks.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a directory that is not this mod.")] = False,
    as_json: AsJson = False,
) -> None:
    """Install or update the Luanti mod in a world, and print the configuration line it needs.

    \b
    Example:
    lorestream mod install ~/.minetest/worlds/home
    """
    from lorestream.cli.setup import luanti

    luanti.install(world, conf, force=force, as_json=as_json)


@app.command(rich_help_panel=OPERATE)
def plan(
    agents: Annotated[int, typer.Option(help="Agents that have memories.", min=1, max=100_000_000)],
    rate: Annotated[
        float, typer.Option(help="Events per second.", min=0.001, max=1e8, callback=options.finite)
    ],
    queries: Annotated[
        float, typer.Option(help="Searches and contexts per second.", min=0, max=1e8, callback=options.finite)
    ],
    servers: Annotated[int, typer.Option(help="Game servers; each sends a batch a second.", min=1)] = 1,
    days: Annotated[
        float, typer.Option(help="For how many days a memory is kept.", min=0.001, callback=options.finite)
    ] = 30,
    keep: Annotated[
        int, typer.Option(help="How many memories of an agent are kept at most.", min=1)
    ] = 10_000,
    log_days: Annotated[
        float, typer.Option(help="For how many days the log is kept.", min=0.001, callback=options.finite)
    ] = 7,
    text_bytes: Annotated[
        float, typer.Option(help="Bytes of an event's text and data.", min=1, callback=options.finite)
    ] = 120,
    repeated: Annotated[
        float, typer.Option(help="Share of the texts that were seen before, as in most games.", min=0, max=1)
    ] = 0,
    cached: Annotated[
        float, typer.Option(help="Share of the searches that the cache of answers answers.", min=0, max=1)
    ] = 0.3,
    skew: Annotated[
        float, typer.Option(help="How unevenly events spread over agents: Zipf's exponent.", min=0, max=3)
    ] = 1,
    store_replicas: Annotated[int, typer.Option(help="Copies of each memory in Qdrant.", min=1)] = 2,
    as_json: AsJson = False,
) -> None:
    """Compute what a workload needs: processes, cores, memory, disk, and which part gives out first.

    Nothing is asked or changed: the figures come from a model of costs, fitted to measurements.
    Ends with 1 if no number of processes carries the workload.

    \b
    Examples:
    lorestream plan --servers 200 --agents 20000 --rate 50000 --queries 5000
    lorestream plan --agents 500 --rate 300 --queries 100 --repeated 0.8 --json
    """
    from lorestream.cli.setup.plan import show
    from lorestream.planning.sizing import Workload

    workload = Workload(
        agents=agents,
        events_per_s=rate,
        searches_per_s=queries,
        servers=servers,
        days=days,
        keep=keep,
        log_days=log_days,
        text_bytes=text_bytes,
        repeated=repeated,
        cached=cached,
        skew=skew,
        store_replicas=store_replicas,
    )
    if not show(workload, as_json=as_json):
        raise typer.Exit(1)


for verb in (snapshot, restore):
    app.command(rich_help_panel=OPERATE)(verb)
for verb in (replay, drop):
    app.command(rich_help_panel=OPERATE)(verb)
app.add_typer(alias, name="alias", rich_help_panel=OPERATE)
app.add_typer(cache, name="cache", rich_help_panel=OPERATE)
app.command("export", rich_help_panel=OPERATE)(export)
app.command("import", rich_help_panel=OPERATE)(import_)
app.add_typer(dlq, name="dlq", rich_help_panel=OPERATE)
app.add_typer(keys, name="keys", rich_help_panel=OPERATE)
app.add_typer(model_verbs, name="model", rich_help_panel=OPERATE)
app.add_typer(config_verbs, name="config", rich_help_panel=OPERATE)
app.add_typer(mod_verbs, name="mod", rich_help_panel=OPERATE)
