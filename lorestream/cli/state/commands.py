"""`lorestream state get|put|patch|versions|rollback`, `records`, `summary`: their options. `calls` does the work."""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; help must be instant)

from __future__ import annotations

from typing import Annotated

import typer

from lorestream.cli import options
from lorestream.cli.memories.commands import Agent, ReadUrl, WriteUrl
from lorestream.cli.options import LOCAL, AsJson

state = typer.Typer(
    no_args_is_help=True, help="The documents of an agent: versioned JSON objects, such as its character."
)

Type = Annotated[str, typer.Argument(metavar="TYPE", help="The type of the document, such as character.")]
Owner = Annotated[
    str, typer.Argument(metavar="AGENT", help="The agent that it belongs to, such as npc:smith.")
]
Tick = Annotated[float | None, typer.Option(help="The tick of the game.", callback=options.finite)]
IfVersion = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Write only if N is the present version; 0: only if there is none.", min=0
    ),
]
EventId = Annotated[
    str | None,
    typer.Option("--id", help="An id of your own: the same write with the same id again changes nothing."),
]
Wait = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="Wait until it is applied, at most so long; 0 = do not wait.",
        min=0,
        max=60,
        callback=options.finite,
    ),
]


@state.command("get")
def get(
    type_: Type,
    agent: Owner,
    version: Annotated[
        int | None, typer.Option(metavar="N", help="This version instead of the present one.", min=1)
    ] = None,
    at: Annotated[
        float | None,
        typer.Option(
            metavar="UNIX_SECONDS", help="As the document was at this time.", callback=options.finite
        ),
    ] = None,
    url: ReadUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Show a document.

    \b
    Examples:
    lorestream state get character npc:smith
    lorestream state get character npc:smith --version 3 --json
    """
    from lorestream.cli.state import calls

    calls.get(url, type_, agent, {"version": version, "at": at}, as_json=as_json)


@state.command("put")
def put(
    type_: Type,
    agent: Owner,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="The new data, a JSON object; - reads it from stdin.")
    ],
    tick: Tick = None,
    if_version: IfVersion = None,
    event_id: EventId = None,
    wait: Wait = 5.0,
    url: WriteUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Create or replace a document, and print its version.

    \b
    Examples:
    lorestream state put character npc:smith '{"name": "Ada", "goals": {"iron": 10}}'
    lorestream state put character npc:smith - --if-version 3 < smith.json
    """
    from lorestream.cli.state import calls

    fields = {"tick": tick, "if_version": if_version, "event_id": event_id}
    calls.write(url, "put", (type_, agent), data, fields, wait_s=wait, as_json=as_json)


@state.command("patch")
def patch(
    type_: Type,
    agent: Owner,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A JSON object with the fields to change; null removes a field. - reads it from stdin.",
        ),
    ],
    tick: Tick = None,
    if_version: IfVersion = None,
    event_id: EventId = None,
    wait: Wait = 5.0,
    url: WriteUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Change some fields of a document (JSON Merge Patch), and print its version.

    \b
    Examples:
    lorestream state patch character npc:smith '{"goals": {"iron": 6}}'
    lorestream state patch character npc:smith '{"mood": null}' --if-version 4
    """
    from lorestream.cli.state import calls

    fields = {"tick": tick, "if_version": if_version, "event_id": event_id}
    calls.write(url, "patch", (type_, agent), data, fields, wait_s=wait, as_json=as_json)


@state.command("versions")
def versions(
    type_: Type,
    agent: Owner,
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many at most.", min=1, max=1000)] = 20,
    url: ReadUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """List the versions of a document that are kept. The newest comes first.

    \b
    Example:
    lorestream state versions character npc:smith -n 5
    """
    from lorestream.cli.state import calls

    calls.versions(url, type_, agent, limit, as_json=as_json)


@state.command("rollback")
def rollback(
    type_: Type,
    agent: Owner,
    to: Annotated[int, typer.Argument(metavar="VERSION", help="The version whose data returns.", min=1)],
    if_version: IfVersion = None,
    event_id: EventId = None,
    wait: Wait = 5.0,
    url: WriteUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Return a document to an earlier version, and print the number of the new version that has its data.

    \b
    Example:
    lorestream state rollback character npc:smith 3
    """
    from lorestream.cli.state import calls

    fields = {"if_version": if_version, "event_id": event_id}
    calls.rollback(url, type_, agent, fields, to=to, wait_s=wait, as_json=as_json)


def records(
    agent: Agent,
    type_: Annotated[
        str,
        typer.Argument(
            metavar="TYPE",
            help="The type: message, tool, reward, interaction, agent_state or one of your own.",
        ),
    ],
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many at most.", min=1, max=1000)] = 20,
    conversation: Annotated[
        str | None, typer.Option(metavar="ID", help="Only messages of this conversation.")
    ] = None,
    oldest: Annotated[bool, typer.Option("--oldest", help="Show the oldest first.")] = False,
    url: ReadUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Show the records of an agent of one type. The newest comes first.

    \b
    Examples:
    lorestream records npc:miner-1 reward -n 5
    lorestream records npc:smith message --conversation c1 --oldest
    """
    from lorestream.cli.state import calls

    options_ = {"conversation": conversation, "order": "oldest" if oldest else None}
    calls.records(url, agent, type_, limit, options_, as_json=as_json)


def summary(agent: Agent, url: ReadUrl = LOCAL, as_json: AsJson = False) -> None:
    """Show how many memories an agent has, in all and by type.

    \b
    Example:
    lorestream summary npc:smith
    """
    from lorestream.cli.state import calls

    calls.summary(url, agent, as_json=as_json)
