"""`lorestream replay`, `lorestream alias`, `lorestream drop`, `lorestream cache clear`."""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; help must be instant)

from __future__ import annotations

from typing import Annotated, Any

import typer

from lorestream.cli import options
from lorestream.cli.options import LOCAL, AsJson, DryRun, Url, Yes

alias = typer.Typer(
    no_args_is_help=True,
    help="Which collection is searched: list the collections, switch to another, switch back.",
)
cache = typer.Typer(no_args_is_help=True, help="The answer cache.")


def replay(
    to: Annotated[
        str,
        typer.Option("--to", metavar="NAME", help="The collection to fill. Created if it does not exist."),
    ],
    since: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="earliest|TIME",
            help="Where to start in the log: Unix seconds, or a time such as 2026-01-31T12:00:00Z.",
        ),
    ] = "earliest",
    model: Annotated[
        str | None,
        typer.Option(
            help="Another embedding model, as in LORESTREAM_EMBEDDER__MODEL. Default: that of the searched collection."
        ),
    ] = None,
    dim: Annotated[
        int | None, typer.Option(help="The dimension of the vectors, for a model that offers several.", min=1)
    ] = None,
    url: Url = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Rebuild the index from the log in another collection, while everything stays in use.

    The workers fill the new collection at low priority. Memories older than the
    log are copied from the searched collection. At the end the search results
    of both are compared; [bold]lorestream alias swap[/] then switches to the
    new one. Run the same command again to continue an interrupted replay. Ends
    with 1 if the comparison fails.

    \b
    Examples:
    lorestream replay --to better
    lorestream replay --to better --model e5-small-v2
    lorestream replay --to january --from 2026-01-01T00:00:00Z
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    arguments = {
        "to": to,
        "since": None if since == "earliest" else options.seconds(since, "--from", "earliest, "),
        "model": model,
        "dim": dim,
    }
    outcome = runner.run_task("replay", arguments, url=url)
    if as_json:
        terminal.print_json(outcome)
    else:
        _print_replay(outcome)
    if outcome["gate"] != "passed":
        raise typer.Exit(1)


@alias.command("list")
def list_(url: Url = LOCAL, as_json: AsJson = False) -> None:
    """List all collections. The searched one comes first.

    \b
    Example:
    lorestream alias list
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    rows: list[dict[str, Any]] = []
    runner.run_task("alias-list", {}, url=url, on_row=rows.append)
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
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Default: the other complete collection, if there is only one."
        ),
    ] = None,
    url: Url = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Search another collection from now on. All processes switch within a second.

    The workers keep the previous collection up to date, so that `lorestream
    alias rollback` loses nothing.

    \b
    Example:
    lorestream alias swap better
    """
    _switch("alias-swap", {"to": to}, url, as_json=as_json)


@alias.command()
def rollback(url: Url = LOCAL, as_json: AsJson = False) -> None:
    """Undo the last swap: search the previous collection again.

    \b
    Example:
    lorestream alias rollback
    """
    _switch("alias-rollback", {}, url, as_json=as_json)


def drop(
    collection: Annotated[
        str, typer.Argument(metavar="COLLECTION", help="Its name, as shown by `lorestream alias list`.")
    ],
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Delete a collection that is not searched, and all data in it.

    \b
    Examples:
    lorestream drop better --dry-run
    lorestream drop better --yes
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    if not dry_run:
        terminal.confirm(f"Delete the collection {collection}? This cannot be undone.", yes=yes)
    outcome = runner.run_task("drop", {"name": collection, "dry_run": dry_run}, url=url)
    if as_json:
        terminal.print_json(outcome)
    else:
        terminal.print_note(f"{collection} {'would be' if dry_run else 'was'} deleted")


@cache.command()
def clear(url: Url = LOCAL, as_json: AsJson = False) -> None:
    """Delete all cached answers. No data is lost: the next searches go to the store again.

    \b
    Example:
    lorestream cache clear
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    outcome = runner.run_task("cache-clear", {}, url=url)
    if as_json:
        terminal.print_json(outcome)
    else:
        terminal.print_note("cache cleared" if outcome["cleared"] else "nothing to clear: there is no cache")


def _switch(task: str, arguments: dict[str, Any], url: str, *, as_json: bool) -> None:
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    outcome = runner.run_task(task, arguments, url=url)
    if as_json:
        terminal.print_json(outcome)
    else:
        terminal.print_note(f"{outcome['searched']} is searched now; before it was {outcome['before']}")


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    memories = f"{row['memories']:,}" if "memories" in row else "-"
    return row["name"], _state(row), memories, row["model"], row["dim"]


def _state(row: dict[str, Any]) -> str:
    if row["searched"]:
        return "searched"
    if row["replaced_at"] is not None:
        return "replaced"
    return "complete" if row["whole"] else "being filled"


def _print_replay(outcome: dict[str, Any]) -> None:
    from lorestream.cli import terminal

    counts = outcome["memories"]
    rows = [
        ("collection", outcome["collection"]),
        ("model", outcome["model"]),
        ("memories", f"{counts['new']:,} (searched collection: {counts['searched']:,})"),
        ("copied from the searched one", f"{outcome['copied']:,}"),
        ("not indexed yet", f"{outcome['behind']:,} records"),
        ("recall@10 against the searched one", f"{outcome['recall_at_10']:.1%}"),
        ("memories found by their own text", f"{outcome['found_itself']:.1%}"),
        ("memories found by their own words", f"{outcome['found_by_words']:.1%}"),
        ("duration", f"{outcome['seconds']:,} s"),
    ]
    terminal.print_table({"": "", " ": ""}, rows)
    if outcome["gate"] == "passed":
        terminal.print_note(f"ready; next: lorestream alias swap {outcome['collection']}")
    for reason in outcome["reasons"]:
        terminal.print_note(f"the comparison failed: {reason}")
