"""`lorestream dlq`: what cannot become a memory, looked at, tried again, dropped."""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; help must be instant)

from __future__ import annotations

from typing import Annotated, Any

import typer

from lorestream.cli import options
from lorestream.cli.options import LOCAL, AsJson, DryRun, Yes

dlq = typer.Typer(no_args_is_help=True, help="Dead letters: records that cannot be processed.")

Url = Annotated[str, options.url("The lorestream whose letters these are.")]
Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="As `lorestream dlq ls` shows them.")
]
Every = Annotated[bool, typer.Option("--all", help="Every letter.")]
Reason = Annotated[str | None, typer.Option(help="Only those of this reason, such as undecodable.")]


@dlq.command()
def ls(
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many.", min=1, max=10_000)] = 50,
    reason: Reason = None,
    url: Url = LOCAL,
    as_json: AsJson = False,
) -> None:
    """List the newest dead letters.

    \b
    lorestream dlq ls
    lorestream dlq ls --reason undecodable --json
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    rows: list[dict[str, Any]] = []
    outcome = runner.carry_out("dlq-ls", {"limit": limit, "reason": reason}, url=url, on_row=rows.append)
    if as_json:
        terminal.print_json({"letters": rows, "total": outcome["total"]})
        return
    if rows:
        columns = {
            "id": "",
            "failed": "",
            "reason": "",
            "tries": "right",
            "what": "",
            "agent": "",
            "error": "",
        }
        terminal.print_table(columns, [_cells(row) for row in rows])
    terminal.print_note(f"{len(rows):,} of {outcome['total']:,} dead letters")


@dlq.command()
def show(
    dead_letter: Annotated[str, typer.Argument(metavar="ID", help="As `lorestream dlq ls` shows it.")],
    url: Url = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: what stands in it, and why it could not be processed.

    \b
    lorestream dlq show 3-1742
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    rows: list[dict[str, Any]] = []
    runner.carry_out("dlq-show", {"id": dead_letter}, url=url, on_row=rows.append)
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
        int, typer.Option(metavar="N", help="What was tried N times in vain is parked.", min=1)
    ] = 5,
    force: Annotated[bool, typer.Option("--force", help="Try what is parked, too.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Try dead letters once more, through the same log and the same workers.

    What fails again is a dead letter again, with one attempt more.

    \b
    lorestream dlq retry 3-1742
    lorestream dlq retry --all --reason unprocessable --yes
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    wanted = _wanted(ids, every, reason) | {"max_attempts": max_attempts, "force": force}
    if every and not dry_run and not yes:
        ready = runner.carry_out("dlq-retry", wanted | {"dry_run": True}, url=url)["retried"]
        terminal.confirm(f"Try {ready:,} dead letters again?", yes=yes)
    outcome = runner.carry_out("dlq-retry", wanted | {"dry_run": dry_run}, url=url)
    if as_json:
        terminal.print_json(outcome)
    else:
        verb = "would be tried" if dry_run else "tried"
        terminal.print_line(f"{outcome['retried']:,} {verb} again")
        if outcome["parked"]:
            terminal.print_note(
                f"{outcome['parked']:,} parked after {max_attempts} attempts: --force tries them too"
            )
        if outcome["too_large"]:
            terminal.print_note(f"{outcome['too_large']:,} are larger than the log takes")
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
    """Drop dead letters for good.

    \b
    lorestream dlq drop 3-1742 --yes
    lorestream dlq drop --all --reason undecodable --dry-run
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import runner

    wanted = _wanted(ids, every, reason)
    if not dry_run and not yes:
        found = runner.carry_out("dlq-drop", wanted | {"dry_run": True}, url=url)["dropped"]
        terminal.confirm(f"Drop {found:,} dead letters? This cannot be undone.", yes=yes)
    outcome = runner.carry_out("dlq-drop", wanted | {"dry_run": dry_run}, url=url)
    if as_json:
        terminal.print_json(outcome)
    else:
        terminal.print_line(f"{outcome['dropped']:,} {'would be ' if dry_run else ''}dropped")
    _missing(outcome["missing"])


def _wanted(ids: list[str] | None, every: bool, reason: str | None) -> dict[str, Any]:
    if bool(ids) == every:
        raise typer.BadParameter("name the letters, or say --all")
    if reason is not None and not every:
        raise typer.BadParameter("--reason goes with --all")
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
