"""`lorestream put`, `search`, `recent`, `agents`, `tail`, `erase`: their options. What they do lies in `by_hand`."""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; help must be instant)

from __future__ import annotations

from typing import Annotated

import typer

from lorestream.cli import options
from lorestream.cli.options import LOCAL, AsJson, Yes

WriteUrl = Annotated[str, options.url("The lorestream to write to.")]
ReadUrl = Annotated[
    str,
    typer.Option("--url", envvar=["LORESTREAM_QUERY_URL", "LORESTREAM_URL"], help="The lorestream to ask."),
]
Agent = Annotated[str, typer.Argument(metavar="AGENT", help="Who remembers, such as npc:woodcutter-1.")]


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
    lorestream put npc:woodcutter-1 "pine trees stand north of the lake"
    lorestream put npc:guard-2 "a thief ran west" --importance 9 --ttl 3600
    lorestream put npc:smith "sold a sword" --type trade --metadata '{"price": 12}'
    """
    from lorestream.cli import terminal
    from lorestream.cli.memories import calls
    from lorestream.client import Event

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
    calls.put(url, agent, text, event, wait_s=wait, as_json=as_json)


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
    lorestream search npc:woodcutter-1 "where are trees"
    lorestream search npc:guard-2 "who stole" -k 3 --filters '{"type": "chat"}'
    lorestream search npc:smith "swords" --filters '{"metadata.price": {"gte": 10}}' --json
    """
    from lorestream.cli import terminal
    from lorestream.cli.memories import calls

    conditions = {"filters": terminal.json_object(filters, "--filters"), "min_score": min_score}
    calls.search(url, agent, query, k, conditions, as_json=as_json)


def recent(
    agent: Agent,
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many.", min=1, max=1000)] = 20,
    kind: Annotated[str | None, typer.Option("--type", help="Only events of this kind.")] = None,
    url: ReadUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Show an agent's newest memories, the newest first.

    \b
    lorestream recent npc:woodcutter-1 -n 5
    """
    from lorestream.cli.memories import calls

    calls.recent(url, agent, limit, kind, as_json=as_json)


def agents(
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many.", min=1, max=1000)] = 100,
    url: ReadUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """List the agents, those with the most memories first.

    \b
    lorestream agents -n 10
    """
    from lorestream.cli.memories import calls

    calls.agents(url, limit, as_json=as_json)


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
    lorestream tail
    lorestream tail --agent npc:woodcutter-1 --json
    """
    from lorestream.cli.memories import calls

    calls.tail(url, stop_after, agent, as_json=as_json)


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
    lorestream erase --agent npc:woodcutter-1 --dry-run
    lorestream erase --player singleplayer --yes
    """
    from lorestream.cli.memories import calls

    if (agent is None) == (player is None):
        raise typer.BadParameter("name either --agent or --player")
    calls.erase(url, agent_id=agent, player=player, yes=yes, dry_run=dry_run, as_json=as_json)
