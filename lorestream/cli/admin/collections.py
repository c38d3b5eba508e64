"""`lorestream replay`, `lorestream alias`, `lorestream drop`, `lorestream cache clear`: care of the index."""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; help must be instant)

from __future__ import annotations

from typing import Annotated, Any

import typer

from lorestream.cli.options import LOCAL, AsJson, DryRun, Url, Yes

alias = typer.Typer(no_args_is_help=True, help="Which collection is searched.")
cache = typer.Typer(no_args_is_help=True, help="The cache of answers.")


def replay(
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="The collection that is filled.")],
    since: Annotated[
        str,
        typer.Option("--from", metavar="earliest|TIME", help="Unix seconds, or like 2026-01-31T12:00:00Z."),
    ] = "earliest",
    model: Annotated[
        str | None,
        typer.Option(help="Another model, as in LORESTREAM_EMBEDDER__MODEL. Default: the present one."),
    ] = None,
    dim: Annotated[int | None, typer.Option(help="Its dimension, where it can have several.", min=1)] = None,
    url: Url = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Build the index anew from the log, in another collection, while players play on.

    The workers fill it, at a pace that leaves queries their time; what is older than the log is copied from the
    present collection. At the end both are compared, and [bold]lorestream alias swap[/] turns to the new one. Broken
    off, it goes on where it was when it is called again.

    \b
    lorestream replay --to better
    lorestream replay --to better --model BAAI/bge-small-en-v1.5
    lorestream replay --to january --from 2026-01-01T00:00:00Z
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    arguments = {"to": to, "since": _seconds(since), "model": model, "dim": dim}
    outcome = runner.carry_out("replay", arguments, url=url)
    if as_json:
        terminal.print_json(outcome)
    else:
        _tell_replay(outcome)
    if outcome["gate"] != "passed":
        raise typer.Exit(1)


@alias.command("list")
def list_(url: Url = LOCAL, as_json: AsJson = False) -> None:
    """List the collections, the one that is searched first.

    \b
    lorestream alias list
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    rows: list[dict[str, Any]] = []
    runner.carry_out("alias-list", {}, url=url, on_row=rows.append)
    if as_json:
        terminal.print_json({"collections": rows})
        return
    terminal.print_table(
        {"collection": "", "state": "", "memories": "right", "model": "", "dim": "right"},
        [_cells(row) for row in rows],
    )


@alias.command()
def swap(
    to: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Default: the only other whole one.")
    ] = None,
    url: Url = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Search another collection from now on: in one step, for all processes within a second.

    The one before goes on being fed, so that `lorestream alias rollback` loses nothing.

    \b
    lorestream alias swap better
    """
    _turn("alias-swap", {"to": to}, url, as_json=as_json)


@alias.command()
def rollback(url: Url = LOCAL, as_json: AsJson = False) -> None:
    """Search the collection again that was searched before the last swap.

    \b
    lorestream alias rollback
    """
    _turn("alias-rollback", {}, url, as_json=as_json)


def drop(
    collection: Annotated[
        str, typer.Argument(metavar="COLLECTION", help="As `lorestream alias list` shows it.")
    ],
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Remove a collection that is not searched, with all that lies in it.

    \b
    lorestream drop better --dry-run
    lorestream drop better --yes
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    if not dry_run:
        terminal.confirm(f"Remove the collection {collection} for good?", yes=yes)
    outcome = runner.carry_out("drop", {"name": collection, "dry_run": dry_run}, url=url)
    if as_json:
        terminal.print_json(outcome)
    else:
        terminal.print_note(f"{collection} {'would be' if dry_run else 'was'} removed")


@cache.command()
def clear(url: Url = LOCAL, as_json: AsJson = False) -> None:
    """Forget every answer that is kept. Nothing is lost: the next ones are searched again.

    \b
    lorestream cache clear
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    outcome = runner.carry_out("cache-clear", {}, url=url)
    if as_json:
        terminal.print_json(outcome)
    else:
        terminal.print_note("cleared" if outcome["cleared"] else "there is no cache")


def _turn(task: str, arguments: dict[str, Any], url: str, *, as_json: bool) -> None:
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    outcome = runner.carry_out(task, arguments, url=url)
    if as_json:
        terminal.print_json(outcome)
    else:
        terminal.print_note(f"{outcome['searched']} is searched now, before it was {outcome['before']}")


def _seconds(text: str) -> float | None:
    """Unix seconds of a time as people write it; None for the beginning. Raises typer.BadParameter."""
    from datetime import UTC, datetime

    if text == "earliest":
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"{text!r} is no time: earliest, Unix seconds, or like 2026-01-31T12:00:00Z"
        raise typer.BadParameter(message, param_hint="--from") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    memories = f"{row['memories']:,}" if "memories" in row else "-"
    return row["name"], _state(row), memories, row["model"], row["dim"]


def _state(row: dict[str, Any]) -> str:
    if row["searched"]:
        return "searched"
    if row["replaced_at"] is not None:
        return "replaced"
    return "whole" if row["whole"] else "being filled"


def _tell_replay(outcome: dict[str, Any]) -> None:
    from lorestream.cli import terminal

    counts = outcome["memories"]
    rows = [
        ("collection", outcome["collection"]),
        ("model", outcome["model"]),
        ("memories", f"{counts['new']:,} (searched at present: {counts['searched']:,})"),
        ("copied", f"{outcome['copied']:,}"),
        ("behind", f"{outcome['behind']:,} records"),
        ("the same nearest", f"{outcome['recall_at_10']:.1%}"),
        ("found themselves", f"{outcome['found_itself']:.1%}"),
        ("took", f"{outcome['seconds']:,} s"),
    ]
    terminal.print_table({"": "", " ": ""}, rows)
    if outcome["gate"] == "passed":
        terminal.print_note(f"ready: lorestream alias swap {outcome['collection']}")
    for reason in outcome["reasons"]:
        terminal.print_note(f"not good enough: {reason}")
