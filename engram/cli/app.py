"""The verbs and their options. What they do lies beside, imported when a verb runs: help must be instant."""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; the rest: see above)

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engram.cli import collections, exports, keys, letters, options, serve, snapshots
from engram.cli.options import LOCAL, AsJson, DataDir, QueryUrl, Yes
from engram.cli.simulation import simulate

app = typer.Typer(
    name="engram",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Memory for game agents: what happens in a world becomes memories that can be asked for.\n\n"
        "Start with [bold]engram up[/], then, beside it, [bold]engram demo[/]."
    ),
    epilog="Exit codes: 0 done, 1 a fault, 2 wrong usage, 3 unhealthy. Every verb that prints data takes --json.",
)
model_verbs = typer.Typer(no_args_is_help=True, help="The embedding model.")
config_verbs = typer.Typer(no_args_is_help=True, help="The settings.")
mod_verbs = typer.Typer(no_args_is_help=True, help="The Luanti mod.")

WriteUrl = Annotated[str, options.url("The engram to write to.")]
ReadUrl = Annotated[
    str, typer.Option("--url", envvar=["ENGRAM_QUERY_URL", "ENGRAM_URL"], help="The engram to ask.")
]
Agent = Annotated[str, typer.Argument(metavar="AGENT", help="Who remembers, such as npc:woodcutter-1.")]


def _version(wanted: bool) -> None:
    if wanted:
        from engram import __version__

        typer.echo(f"engram {__version__}")
        raise typer.Exit


@app.callback()
def engram(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What stands before every verb."""


for verb in (serve.up, serve.gateway, serve.worker, serve.query):
    app.command(rich_help_panel="Run")(verb)
app.command("simulate", rich_help_panel="Run")(simulate)


# --- by hand -------------------------------------------------------------------------------------------------

BY_HAND = "By hand"


@app.command(rich_help_panel=BY_HAND)
def put(
    agent: Agent,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What is remembered; - reads it from stdin.")],
    kind: Annotated[str | None, typer.Option("--type", help="What kind of event it was.")] = None,
    ttl: Annotated[
        float | None, typer.Option(help="Seconds until it is forgotten, 0 = never.", min=0)
    ] = None,
    importance: Annotated[float | None, typer.Option(help="From 0 to 10.", min=0, max=10)] = None,
    metadata: Annotated[
        str | None, typer.Option(metavar="JSON", help="Fields that filters can ask for.")
    ] = None,
    player: Annotated[str | None, typer.Option(help="Whom it is about; stored as a pseudonym.")] = None,
    event_id: Annotated[
        str | None, typer.Option("--id", help="Your own id: the same one again makes no second memory.")
    ] = None,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", help="Wait until it can be found; 0 = don't.", min=0, max=60)
    ] = 5.0,
    url: WriteUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Write one memory and print its id.

    \b
    engram put npc:woodcutter-1 "pine trees stand north of the lake"
    engram put npc:guard-2 "a thief ran west" --importance 9 --ttl 3600
    engram put npc:smith "sold a sword" --type trade --metadata '{"price": 12}'
    """
    from engram.cli import by_hand, terminal
    from engram.client import Event

    event = Event()
    if kind is not None:
        event["type"] = kind
    if ttl is not None:
        event["ttl"] = ttl
    if importance is not None:
        event["importance"] = importance
    if player is not None:
        event["player"] = player
    if event_id is not None:
        event["id"] = event_id
    if (fields := terminal.json_object(metadata, "--metadata")) is not None:
        event["metadata"] = fields
    by_hand.put(url, agent, text, event, wait_s=wait, as_json=as_json)


@app.command(rich_help_panel=BY_HAND)
def search(
    agent: Agent,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="The question, in plain words.")],
    k: Annotated[int, typer.Option("-k", help="How many memories at most.", min=1, max=100)] = 5,
    filters: Annotated[str | None, typer.Option(metavar="JSON", help="Conditions that must hold.")] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Leave out what scores less.", min=-1, max=1)
    ] = None,
    url: ReadUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Ask an agent's memories, the best first.

    \b
    engram search npc:woodcutter-1 "where are trees"
    engram search npc:guard-2 "who stole" -k 3 --filters '{"type": "chat"}'
    engram search npc:smith "swords" --filters '{"metadata.price": {"gte": 10}}' --json
    """
    from engram.cli import by_hand, terminal

    conditions = {"filters": terminal.json_object(filters, "--filters"), "min_score": min_score}
    by_hand.search(url, agent, query, k, conditions, as_json=as_json)


@app.command(rich_help_panel=BY_HAND)
def recent(
    agent: Agent,
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many.", min=1, max=1000)] = 20,
    kind: Annotated[str | None, typer.Option("--type", help="Only events of this kind.")] = None,
    url: ReadUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Show an agent's newest memories, the newest first.

    \b
    engram recent npc:woodcutter-1 -n 5
    """
    from engram.cli import by_hand

    by_hand.recent(url, agent, limit, kind, as_json=as_json)


@app.command(rich_help_panel=BY_HAND)
def agents(
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many.", min=1, max=1000)] = 100,
    url: ReadUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """List the agents, those with the most memories first.

    \b
    engram agents -n 10
    """
    from engram.cli import by_hand

    by_hand.agents(url, limit, as_json=as_json)


@app.command(rich_help_panel=BY_HAND)
def tail(
    stop_after: Annotated[
        int | None, typer.Option("-n", "--lines", help="End after so many; default: never.", min=1)
    ] = None,
    agent: Annotated[str | None, typer.Option(metavar="AGENT", help="Only this agent's.")] = None,
    url: WriteUrl = LOCAL,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Watch memories as they become findable, until Ctrl-C.

    \b
    engram tail
    engram tail --agent npc:woodcutter-1 --json
    """
    from engram.cli import by_hand

    by_hand.tail(url, stop_after, agent, as_json=as_json)


@app.command(rich_help_panel=BY_HAND)
def erase(
    agent: Annotated[
        str | None, typer.Option(metavar="AGENT", help="Everything this agent remembers.")
    ] = None,
    player: Annotated[str | None, typer.Option(metavar="NAME", help="Everything about this player.")] = None,
    yes: Yes = False,
    dry_run: Annotated[bool, options.dry_run("Only say what would go.")] = False,
    url: WriteUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Erase all memories of an agent, or all about a player, for good.

    Erasing a player takes every memory about them, whoever remembers it, and the agents named after them.

    \b
    engram erase --agent npc:woodcutter-1 --dry-run
    engram erase --player singleplayer --yes
    """
    from engram.cli import by_hand

    if (agent is None) == (player is None):
        raise typer.BadParameter("name either --agent or --player")
    by_hand.erase(url, agent_id=agent, player=player, yes=yes, dry_run=dry_run, as_json=as_json)


@app.command(rich_help_panel="Run")
def demo(
    seed: Annotated[int, typer.Option(help="Another seed is another village.")] = 1,
    questions: Annotated[int, typer.Option("-n", "--questions", help="How many are asked.", min=0)] = 12,
    url: Annotated[str, options.url("The engram to play into.")] = LOCAL,
    query_url: QueryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Play a simulated village into a running engram, then ask its people.

    A few hundred events of a day in a village go through the gateway like those of a game; then questions are
    asked and the memories that answer them shown, with scores and times. Playing it again adds nothing.

    \b
    engram up        (in another terminal)
    engram demo
    """
    from engram.cli import demonstration

    demonstration.play(url, query_url, seed=seed, questions=questions, as_json=as_json)


# --- care ----------------------------------------------------------------------------------------------------

CARE = "Care"


@app.command(rich_help_panel=CARE)
def doctor(
    wait: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Wait until an engram is ready, at most so long.", min=0),
    ] = None,
    world: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A Luanti world whose set-up is checked too.")
    ] = None,
    conf: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The Luanti server's configuration file.")
    ] = None,
    canary: Annotated[bool, typer.Option(help="Write a memory that lives a minute, and find it.")] = True,
    data: DataDir = None,
    url: Annotated[str, options.url("The engram to look at.")] = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Check everything that Engram needs, and say how to mend what is wrong.

    Ends with 3 when something is. With --wait, an engram has to be running: a container's health check.

    \b
    engram doctor
    engram doctor --wait 30 --no-canary
    engram doctor --world ~/.minetest/worlds/home
    """
    from engram.cli import diagnosis

    healthy = diagnosis.run(
        diagnosis.Subject(url=url, data_dir=data, world=world, conf=conf),
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
    engram config show
    ENGRAM_TTL_DAYS=7 engram config show --json
    """
    from engram.cli import configuration

    configuration.show(as_json=as_json)


@model_verbs.command("prepare")
def model_prepare(
    model: Annotated[str | None, typer.Option(help="Its name on the hub, or a directory.")] = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Fetch or export the embedding model, once. Ends with 3 when something must be installed first.

    \b
    engram model prepare
    engram model prepare --model BAAI/bge-small-en-v1.5
    """
    from engram.cli import models

    if not models.prepare(model, data, as_json=as_json):
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
    engram mod install ~/.minetest/worlds/home
    """
    from engram.cli import luanti

    luanti.install(world, conf, force=force, as_json=as_json)


for verb in (snapshots.snapshot, snapshots.restore):
    app.command(rich_help_panel=CARE)(verb)
for verb in (collections.replay, collections.drop):
    app.command(rich_help_panel=CARE)(verb)
app.add_typer(collections.alias, name="alias", rich_help_panel=CARE)
app.add_typer(collections.cache, name="cache", rich_help_panel=CARE)
app.command("export", rich_help_panel=CARE)(exports.export)
app.command("import", rich_help_panel=CARE)(exports.import_)
app.add_typer(letters.app, name="dlq", rich_help_panel=CARE)
app.add_typer(keys.app, name="keys", rich_help_panel=CARE)
app.add_typer(model_verbs, name="model", rich_help_panel=CARE)
app.add_typer(config_verbs, name="config", rich_help_panel=CARE)
app.add_typer(mod_verbs, name="mod", rich_help_panel=CARE)
