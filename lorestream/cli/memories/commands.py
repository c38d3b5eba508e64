"""`lorestream put`, `search`, `recent`, `agents`, `tail`, `erase`, `rewind`: their options.

`calls` does the work, `rewinds` that of `rewind`.
"""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; help must be instant)

from __future__ import annotations

from typing import Annotated, Literal

import typer

from lorestream.cli import options
from lorestream.cli.options import LOCAL, AsJson, Yes

WriteUrl = Annotated[str, options.url("The server.")]
ReadUrl = Annotated[
    str,
    typer.Option("--url", envvar=["LORESTREAM_QUERY_URL", "LORESTREAM_URL"], help="The server."),
]
Agent = Annotated[str, typer.Argument(metavar="AGENT", help="The agent, such as npc:woodcutter-1.")]
Metadata = Annotated[
    str | None, typer.Option(metavar="JSON", help="A JSON object; its fields can be used in filters.")
]
Wait = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="Wait until the memory can be found, at most so long; 0 = do not wait.",
        min=0,
        max=60,
        callback=options.finite,
    ),
]
AsOf = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Show what was known then: Unix seconds, or 2026-01-31T12:00:00Z."),
]
Mode = Literal["dense", "keyword", "hybrid"]
Superseded = Annotated[bool, typer.Option("--superseded", help="Also show memories that others replace.")]


def put(
    agent: Agent,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="The text of the memory; - reads it from stdin.")
    ],
    kind: Annotated[str | None, typer.Option("--type", help="The type of the event, such as chat.")] = None,
    ttl: Annotated[
        float | None,
        typer.Option(
            help="Seconds until the memory expires, 0 = never. Default: LORESTREAM_TTL_DAYS of the server.",
            min=0,
            callback=options.finite,
        ),
    ] = None,
    importance: Annotated[
        float | None, typer.Option(help="From 0 to 10. Default: 5.", min=0, max=10, callback=options.finite)
    ] = None,
    metadata: Metadata = None,
    player: Annotated[
        str | None, typer.Option(help="The player whom the memory is about; stored as a pseudonym.")
    ] = None,
    about: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHOM", help="An agent id or a player's name that it is about; may be repeated."
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="The id of a memory that it rests on; may be repeated."),
    ] = None,
    event_id: Annotated[
        str | None,
        typer.Option("--id", help="An id of your own: writing the same id again adds no second memory."),
    ] = None,
    wait: Wait = 5.0,
    url: WriteUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Write one memory and print its id.

    \b
    Examples:
    lorestream put npc:woodcutter-1 "pine trees stand north of the lake"
    lorestream put npc:guard-2 "a thief ran west" --importance 9 --ttl 3600
    lorestream put npc:smith "sold a sword" --type trade --metadata '{"price": 12}'
    lorestream put npc:smith "Anna and the baker had a quarrel" --about Anna --about npc:baker
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
    if about:
        event["about"] = about
    if source:
        event["sources"] = source
    if (fields := terminal.json_object(metadata, "--metadata")) is not None:
        event["metadata"] = fields
    calls.put(url, agent, text, event, wait_s=wait, as_json=as_json)


def search(
    agent: Agent,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="The question, in plain words.")],
    k: Annotated[int, typer.Option("-k", help="How many memories at most.", min=1, max=100)] = 5,
    mode: Annotated[
        Mode | None, typer.Option(help="By meaning (dense), by words (keyword) or both. Default: hybrid.")
    ] = None,
    filters: Annotated[
        str | None, typer.Option(metavar="JSON", help="Conditions that a memory must meet, as a JSON object.")
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Leave out memories with a lower score.", callback=options.finite)
    ] = None,
    neighbours: Annotated[
        float | None,
        typer.Option(help="How much what stands next to a memory lifts its score.", min=0, max=1),
    ] = None,
    time_words: Annotated[
        bool, typer.Option("--time-words", help='Let "yesterday" or "in May" lift memories of that time.')
    ] = False,
    rerank: Annotated[
        bool,
        typer.Option("--rerank", help="Compare the best ones with the question again: slower, more exact."),
    ] = False,
    as_of: AsOf = None,
    superseded: Superseded = False,
    url: ReadUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Search the memories of an agent. The best match comes first.

    \b
    Examples:
    lorestream search npc:woodcutter-1 "where are trees"
    lorestream search npc:guard-2 "who stole" -k 3 --filters '{"type": "chat"}'
    lorestream search npc:guard-2 "red cloak" --mode keyword
    lorestream search npc:smith "swords" --filters '{"metadata.price": {"gte": 10}}' --json
    """
    from lorestream.cli import terminal
    from lorestream.cli.memories import calls

    conditions = {
        "mode": mode,
        "filters": terminal.json_object(filters, "--filters"),
        "neighbours": neighbours,
        "time_words": time_words or None,
        "rerank": rerank or None,
        "as_of": None if as_of is None else options.seconds(as_of, "--as-of"),
        "superseded": superseded or None,
        "min_score": min_score,
    }
    calls.search(url, agent, query, k, conditions, as_json=as_json)


def recent(
    agent: Agent,
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many at most.", min=1, max=1000)] = 20,
    kind: Annotated[str | None, typer.Option("--type", help="Only memories of this type.")] = None,
    as_of: AsOf = None,
    superseded: Superseded = False,
    url: ReadUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Show the newest memories of an agent. The newest comes first.

    \b
    Example:
    lorestream recent npc:woodcutter-1 -n 5
    """
    from lorestream.cli.memories import calls

    conditions = {
        "type": kind or None,
        "as_of": None if as_of is None else options.seconds(as_of, "--as-of"),
        "superseded": superseded or None,
    }
    calls.recent(url, agent, limit, conditions, as_json=as_json)


def agents(
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many at most.", min=1, max=1000)] = 100,
    prefix: Annotated[str, typer.Option(help="Only agents whose ids begin so.")] = "",
    url: ReadUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """List the agents. The one with the most memories comes first.

    \b
    Examples:
    lorestream agents -n 10
    lorestream agents --prefix npc:
    """
    from lorestream.cli.memories import calls

    calls.agents(url, limit, prefix, as_json=as_json)


def tail(
    stop_after: Annotated[
        int | None, typer.Option("-n", "--lines", help="Stop after so many memories. Default: never.", min=1)
    ] = None,
    agent: Annotated[str | None, typer.Option(metavar="AGENT", help="Only memories of this agent.")] = None,
    player: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only memories about this player.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--type", help="Only memories of this type; shows its records, too.")
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Begin behind this event id, which an earlier tail printed at its end."
        ),
    ] = None,
    url: ReadUrl = LOCAL,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Watch new memories as they become findable, until Ctrl-C.

    Goes on by itself after a restart of the server, without a gap. All
    memories, or those of a type, need a key with the scopes query and admin.

    \b
    Examples:
    lorestream tail
    lorestream tail --agent npc:woodcutter-1 --json
    """
    from lorestream.cli.memories import calls

    given = {"agent_id": agent, "player": player, "type": kind}
    wanted = {name: value for name, value in given.items() if value is not None}
    calls.tail(url, stop_after, after, wanted, as_json=as_json)


def erase(
    agent: Annotated[
        str | None, typer.Option(metavar="AGENT", help="Erase everything of this agent.")
    ] = None,
    player: Annotated[
        str | None, typer.Option(metavar="NAME", help="Erase everything about this player.")
    ] = None,
    yes: Yes = False,
    dry_run: Annotated[bool, options.dry_run("Only print what would be erased. Changes nothing.")] = False,
    url: WriteUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Erase everything of an agent, or all about a player. This cannot be undone.

    Erasing an agent deletes its memories, records, documents, Q-tables and
    policies. Erasing a player deletes every memory and record about them, of any
    agent, and everything of agents named after them, such as player:NAME.

    \b
    Examples:
    lorestream erase --agent npc:woodcutter-1 --dry-run
    lorestream erase --player singleplayer --yes
    """
    from lorestream.cli.memories import calls

    if (agent is None) == (player is None):
        raise typer.BadParameter("give either --agent or --player")
    calls.erase(url, agent_id=agent, player=player, yes=yes, dry_run=dry_run, as_json=as_json)


def rewind(
    server: Annotated[
        str | None, typer.Option(metavar="NAME", help="The game server whose world was restored.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="The time of the backup: Unix seconds, or such as 2026-01-31T12:00:00Z (UTC without a zone).",
        ),
    ] = None,
    undo: Annotated[str | None, typer.Option(metavar="ID", help="Undo the rewind with this id.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the rewinds so far.")] = False,
    yes: Yes = False,
    dry_run: Annotated[
        bool, options.dry_run("Only print how many memories would be hidden. Changes nothing.")
    ] = False,
    url: WriteUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Take a server's agents back to the time of a backup, or undo that.

    Run it when the world of a game server was restored from a backup. What
    its agents came to know after that time is hidden from all reads. Other
    servers are not touched; nor are documents, Q-tables and policies, which
    name no server: see `lorestream state rollback`.

    \b
    Examples:
    lorestream rewind --server survival-1 --to 2026-01-31T04:00:00Z --dry-run
    lorestream rewind --server survival-1 --to 2026-01-31T04:00:00Z
    lorestream rewind --list
    lorestream rewind --undo 7c2d9a14-3f0e-4b6b-9f57-2a1f6f0f7d10
    """
    from lorestream.cli.memories import rewinds

    begins = server is not None or to is not None
    if begins + (undo is not None) + listed != 1 or (begins and (server is None or to is None)):
        raise typer.BadParameter("give --server with --to, or --undo, or --list")
    if dry_run and not begins:
        raise typer.BadParameter("--dry-run goes with --server and --to")
    if listed:
        rewinds.show(url, as_json=as_json)
    elif undo is not None:
        rewinds.undo(url, undo, yes=yes, as_json=as_json)
    else:
        moment = options.seconds(str(to), "--to")
        rewinds.begin(url, str(server), moment, yes=yes, dry_run=dry_run, as_json=as_json)
