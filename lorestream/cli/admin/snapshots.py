"""`lorestream snapshot` and `lorestream restore`."""

# ruff: noqa: D301, FBT002, PLC0415 (signatures are what users type; help must be instant)

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorestream.cli import options
from lorestream.cli.options import LOCAL, AsJson

if TYPE_CHECKING:
    from lorestream.settings import Settings

_UNITS = ("bytes", "KB", "MB", "GB")


def snapshot(
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A new directory, on the machine of the server."
            " Default: a directory named after the time, in LORESTREAM_SNAPSHOT__DIR.",
        ),
    ] = None,
    url: Annotated[str, options.url("The server to copy.")] = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Take a snapshot of a running Lorestream. It stays in use meanwhile.

    A snapshot holds the memories, the log, the erasures and the position in the
    log: `lorestream restore` brings back everything accepted before it. The
    directory appears only when the snapshot is complete.

    \b
    Examples:
    lorestream snapshot
    lorestream snapshot --to /backup/lorestream-monday
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin.runner import run_task

    outcome = run_task("snapshot", {"to": None if to is None else str(to.absolute())}, url=url)
    if as_json:
        terminal.print_json(outcome)
        return
    terminal.print_line(outcome["snapshot"])
    removed = f", {outcome['removed']} older snapshots deleted" if outcome["removed"] else ""
    terminal.print_note(f"{_size(outcome['bytes'])} in {outcome['took_s']:.1f} s{removed}")


def restore(
    source: Annotated[Path, typer.Argument(metavar="SNAPSHOT", help="The directory of a snapshot.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="An empty data directory. Default: LORESTREAM_DATA_DIR.")
    ] = None,
    ledger_from: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA_DIR",
            help="The old data directory, if you still have it: erasures, deletions and rewinds made after the snapshot are"
            " applied again.",
        ),
    ] = None,
    dry_run: Annotated[bool, options.dry_run("Only check the snapshot, and restore nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a snapshot into an empty data directory. Stop Lorestream first.

    The checksums and the model are checked before anything is written. After
    it, start `lorestream up` with that data directory: it first indexes the
    events that were accepted but not yet indexed at the time of the snapshot.

    \b
    Examples:
    lorestream restore /backup/lorestream-monday --data ./data
    lorestream restore /backup/lorestream-monday --data ./new --ledger-from ./data
    """
    from lorestream.cli import terminal
    from lorestream.settings import load_settings

    settings = load_settings(data_dir=data)
    outcome = _run(settings, source, ledger_from, dry_run=dry_run)
    if as_json:
        terminal.print_json(outcome)
    elif dry_run:
        terminal.print_line(f"{source} is complete: {_size(outcome['bytes'])}, {outcome['model_id']}")
    else:
        terminal.print_line(outcome["data"])
        next_ = "" if settings.distributed else f"; next: lorestream up --data {outcome['data']}"
        applied = f", {outcome['forgotten']} deletions, erasures and rewinds applied" if ledger_from else ""
        terminal.print_note(f"{_size(outcome['bytes'])}{applied}{next_}")


def _run(settings: Settings, source: Path, ledger_from: Path | None, *, dry_run: bool) -> dict[str, Any]:
    from lorestream import durable, os_support
    from lorestream.admin import Outcome, Progress, Remark, Row
    from lorestream.cli import terminal
    from lorestream.cli.admin.runner import ProgressDisplay
    from lorestream.telemetry import set_up_logging
    from lorestream.wiring import restores

    set_up_logging(settings.log_format, "warning")
    os.umask(durable.PRIVATE_UMASK)  # the libraries that open the copies create files with modes of their own

    async def run() -> dict[str, Any]:
        reports = (
            restores.check(settings, source)
            if dry_run
            else restores.restore(settings, source, ledger_from=ledger_from)
        )
        outcome: dict[str, Any] = {}
        with ProgressDisplay() as display:
            async with contextlib.aclosing(reports):
                async for report in reports:
                    match report:
                        case Progress():
                            display.show(report)
                        case Remark():
                            terminal.print_note(report.text)
                        case Outcome():
                            outcome = report.value
                        case Row():
                            pass
        return outcome

    return os_support.run_loop(run())


def _size(count: float) -> str:
    for unit in _UNITS[:-1]:
        if count < 1000:  # noqa: PLR2004
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} {_UNITS[-1]}"
