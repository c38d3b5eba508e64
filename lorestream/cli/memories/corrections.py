"""`lorestream supersede` and `relations`: their options. `calls` does the work."""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; help must be instant)

from __future__ import annotations

from typing import Annotated

import typer

from lorestream.cli.memories.commands import Agent, Metadata, ReadUrl, Wait, WriteUrl
from lorestream.cli.options import LOCAL, AsJson


def supersede(
    agent: Agent,
    memory_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="The id of the memory to replace, which `lorestream search --json` shows."
        ),
    ],
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="The text of the new memory; - reads it from stdin.")
    ],
    kind: Annotated[str | None, typer.Option("--type", help="The type of the event, such as chat.")] = None,
    metadata: Metadata = None,
    wait: Wait = 5.0,
    url: WriteUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Replace a memory by a new one, and print the id of the new one.

    The old one stays, and is shown only where it is asked for (--superseded).
    Deleting the new memory brings it back.

    \b
    Example:
    lorestream supersede npc:woodcutter-1 5f0c1f0e-6d0a-5d0b-9b59-0c7f6a1d2e3f "the pines stand south of the lake"
    """
    from lorestream.cli import terminal
    from lorestream.cli.memories import calls
    from lorestream.client import Event

    event = Event()
    if kind is not None:
        event["type"] = kind
    if (fields := terminal.json_object(metadata, "--metadata")) is not None:
        event["metadata"] = fields
    calls.supersede(url, agent, memory_id, text, event, wait_s=wait, as_json=as_json)


def relations(
    agent: Agent,
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many at most.", min=1, max=1000)] = 20,
    url: ReadUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Show with whom an agent has to do: how many memories, the last one, the sum of their valence.

    Players are shown as their pseudonyms.

    \b
    Example:
    lorestream relations npc:smith -n 5
    """
    from lorestream.cli.memories import calls

    calls.relations(url, agent, limit, as_json=as_json)
