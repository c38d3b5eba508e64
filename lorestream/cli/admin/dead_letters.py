"""`lorestream dlq`: list, show, retry and drop dead letters."""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; help must be instant)

from __future__ import annotations

from typing import Annotated, Any

import typer

from lorestream.cli import options
from lorestream.cli.options import LOCAL, AsJson, DryRun, Yes

dlq = typer.Typer(
    no_args_is_help=True, help="Dead letters: records of the log that a worker could not process."
)

Url = Annotated[str, options.url("The server.")]
Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Their ids, as shown by `lorestream dlq ls`.")
]
Every = Annotated[bool, typer.Option("--all", help="All dead letters.")]
Reason = Annotated[str | None, typer.Option(help="Only dead letters with this reason, such as undecodable.")]


@dlq.command()
def ls(
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many at most.", min=1, max=10_000)] = 50,
    reason: Reason = None,
    url: Url = LOCAL,
    as_json: AsJson = False,
) -> None:
    """List the newest dead letters.

    \b
    Examples:
    lorestream dlq ls
    lorestream dlq ls --reason undecodable --json
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    rows: list[dict[str, Any]] = []
    outcome = runner.run_task("dlq-ls", {"limit": limit, "reason": reason}, url=url, on_row=rows.append)
    if as_json:
        terminal.print_json({"letters": rows, "total": outcome["total"]})
        return
    if rows:
        columns = {
            "id": "",
            "failed": "",
            "reason": "",
            "tries": "right",
            "event": "",
            "agent": "",
            "error": "",
        }
        terminal.print_table(columns, [_cells(row) for row in rows])
    terminal.print_note(f"{len(rows):,} of {outcome['total']:,} dead letters")


@dlq.command()
def show(
    dead_letter: Annotated[
        str, typer.Argument(metavar="ID", help="Its id, as shown by `lorestream dlq ls`.")
    ],
    url: Url = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: its content, and why it could not be processed.

    \b
    Example:
    lorestream dlq show 3-1742
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    rows: list[dict[str, Any]] = []
    runner.run_task("dlq-show", {"id": dead_letter}, url=url, on_row=rows.append)
    if as_json:
        terminal.print_json(rows[0])
        return
    for name in ("id", "reason", "error", "attempts", "partition", "offset", "bytes", "key"):
        terminal.print_line(f"{name:13}{rows[0][name]}")
    for name in ("failed_at", "appended_at"):
        terminal.print_line(f"{name:13}{terminal.local_time(rows[0][name])}")
    for name, value in rows[0]["headers"].items():
        terminal.print_line(f"header       {name}: {value}")
    if "value" in rows[0]:
        terminal.print_json(rows[0]["value"])
    else:
        terminal.print_line(rows[0]["raw"])


@dlq.command()
def retry(
    ids: Ids = None,
    every: Every = False,
    reason: Reason = None,
    max_attempts: Annotated[
        int, typer.Option(metavar="N", help="Skip dead letters that failed N times or more (parked).", min=1)
    ] = 5,
    force: Annotated[bool, typer.Option("--force", help="Retry parked dead letters as well.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Retry dead letters: append their records to the log again, for the workers.

    A record that fails again becomes a dead letter again, with one more attempt
    counted.

    \b
    Examples:
    lorestream dlq retry 3-1742
    lorestream dlq retry --all --reason unprocessable --yes
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    wanted = _wanted(ids, every, reason) | {"max_attempts": max_attempts, "force": force}
    if every and not dry_run and not yes:
        ready = runner.run_task("dlq-retry", wanted | {"dry_run": True}, url=url)["retried"]
        terminal.confirm(f"Retry {ready:,} dead letters?", yes=yes)
    outcome = runner.run_task("dlq-retry", wanted | {"dry_run": dry_run}, url=url)
    if as_json:
        terminal.print_json(outcome)
    else:
        verb = "would be tried" if dry_run else "tried"
        terminal.print_line(f"{outcome['retried']:,} {verb} again")
        if outcome["parked"]:
            terminal.print_note(
                f"{outcome['parked']:,} skipped: they failed {max_attempts} times or more; --force retries them too"
            )
        if outcome["too_large"]:
            terminal.print_note(f"{outcome['too_large']:,} skipped: larger than the log's limit for a record")
    _missing(outcome["missing"])


@dlq.command()
def drop(
    ids: Ids = None,
    every: Every = False,
    reason: Reason = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Delete dead letters. This cannot be undone.

    \b
    Examples:
    lorestream dlq drop 3-1742 --yes
    lorestream dlq drop --all --reason undecodable --dry-run
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    wanted = _wanted(ids, every, reason)
    if not dry_run and not yes:
        found = runner.run_task("dlq-drop", wanted | {"dry_run": True}, url=url)["dropped"]
        terminal.confirm(f"Drop {found:,} dead letters? This cannot be undone.", yes=yes)
    outcome = runner.run_task("dlq-drop", wanted | {"dry_run": dry_run}, url=url)
    if as_json:
        terminal.print_json(outcome)
    else:
        terminal.print_line(f"{outcome['dropped']:,} {'would be ' if dry_run else ''}dropped")
    _missing(outcome["missing"])


def _wanted(ids: list[str] | None, every: bool, reason: str | None) -> dict[str, Any]:
    if bool(ids) == every:
        raise typer.BadParameter("give the ids of dead letters, or --all")
    if reason is not None and not every:
        raise typer.BadParameter("--reason needs --all")
    return {"ids": ids or [], "every": every, "reason": reason}


def _missing(ids: list[str]) -> None:
    from lorestream.cli import terminal

    if ids:
        terminal.print_note(f"no such dead letter: {', '.join(ids)}")
        raise typer.Exit(1)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    from lorestream.cli import terminal

    what = " ".join(str(row[name]) for name in ("op", "type") if row[name]) or "-"
    agent = row["agent_id"] or "-"
    if row["tenant"] not in {None, "default"}:
        agent = f"{row['tenant']}/{agent}"
    error = " ".join(row["error"].split())[:120]
    return (
        row["id"],
        terminal.local_time(row["failed_at"]),
        row["reason"],
        str(row["attempts"]),
        what,
        agent,
        error,
    )
