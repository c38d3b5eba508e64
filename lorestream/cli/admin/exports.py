"""`lorestream export` and `lorestream import`: memories as JSON Lines, from one Lorestream to another."""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; help must be instant)

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import IO, Annotated, Any

import typer

from lorestream.cli import options
from lorestream.cli.options import LOCAL, AsJson

SHOWN_BAD_LINES = 10
_BATCH_BYTES = 400 * 1024  # of lines; at most twice that as JSON strings in the request
_BATCH_LINES = 500
_MAX_PENDING_BATCHES = 4
"""Batches that may wait for the workers. It bounds how long live events queue behind an import."""

_SKIPPED = {
    "present": "already there",
    "deleted": "deleted since",
    "erased": "erased since",
    "rewound": "hidden by a rewind",
    "expired": "expired",
    "bad": "bad",
}


def export(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="The file to write; - is stdout. A name ending in .jsonl is not compressed."
        ),
    ],
    agent: Annotated[
        list[str] | None, typer.Option(metavar="AGENT", help="Only memories of this agent; may be repeated.")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(help="Only memories of this tenant. Default: all tenants.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    url: Annotated[str, options.url("The server to export from.")] = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Export all memories, or those of some agents, to a file: JSON Lines, compressed with zstd.

    With them go documents, Q-tables and policies, each as one or more rows.
    Expired, erased and rewound memories are left out. Vectors are not exported: an
    import computes them again.

    \b
    Examples:
    lorestream export memories.jsonl.zst
    lorestream export smith.jsonl --agent npc:smith
    """
    import msgspec

    from lorestream.admin.export_format import HEADER
    from lorestream.cli import terminal
    from lorestream.cli.admin import export_file, runner

    encoder = msgspec.json.Encoder()
    with export_file.writing(file, force=force) as write:
        write(encoder.encode(HEADER) + b"\n")
        outcome = runner.run_task(
            "export",
            {"agents": agent or [], "tenant": tenant},
            url=url,
            on_row=lambda row: write(encoder.encode(row) + b"\n"),
        )
    left_out = [f"{outcome[name]:,} {name}" for name in ("erased", "rewound", "expired") if outcome.get(name)]
    note = f"; left out: {', '.join(left_out)}" if left_out else ""
    if as_json and file != export_file.STANDARD:
        terminal.print_json({"file": file, **outcome})
    else:
        rows = f" and {outcome['rows']:,} rows of state" if outcome["rows"] else ""
        terminal.print_note(
            f"{outcome['memories']:,} memories{rows} in {'stdout' if file == '-' else file}{note}"
        )


def import_(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The export to read, compressed or not; - is stdin.")
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Import nothing if a line is invalid.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until all memories can be found.")] = True,
    url: Annotated[str, options.url("The server to import into.")] = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Import exported memories and state, with their ids, times and expiry.

    Skips memories that exist already, state that is as new or newer,
    and what has expired, or was deleted, erased or rewound since the export:
    importing a file twice changes nothing. Ends with 1 if a
    line was invalid.

    \b
    Examples:
    lorestream import memories.jsonl.zst
    ssh other-host lorestream export - | lorestream import -
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import export_file, runner

    counts: Counter[str] = Counter()
    positions: dict[int, int] = {}
    pending = deque[dict[int, int]](maxlen=_MAX_PENDING_BATCHES)
    with export_file.reading(file) as opened:
        numbers, bad = _check_file(opened, strict=strict)

        def on_outcome(outcome: dict[str, Any]) -> None:
            for partition, offset in outcome.pop("positions", {}).items():
                positions[int(partition)] = max(offset, positions.get(int(partition), -1))
            pending.append(dict(positions))
            if outcome.get("stalled"):
                terminal.print_note(
                    "the workers make no progress: imported memories can be found once they do; see `lorestream doctor`"
                )
                counts["stalled"] = 1
            counts.update(
                {name: outcome[name] for name in ("imported", "rows", *_SKIPPED) if name in outcome}
            )
            if outcome.get("indexed") is False:
                terminal.print_note(
                    f"about {outcome['left']:,} records are not indexed yet: the workers make no progress, see `lorestream doctor`"
                )

        def calls() -> Iterator[tuple[str, dict[str, Any]]]:
            done = 0
            for batch in _batches(opened, bad):
                behind = pending[0] if len(pending) == _MAX_PENDING_BATCHES and not counts["stalled"] else {}
                yield "import", {"lines": batch, "done": done, "total": numbers, "behind": behind}
                done += len(batch)
            if wait and positions:
                yield "indexed", {"positions": positions}

        runner.run_tasks(calls(), url=url, on_row=_print_bad_line, on_outcome=on_outcome)
    counts["bad"] += len(bad)
    if as_json:
        terminal.print_json({name: counts[name] for name in ("imported", "rows", *_SKIPPED)})
    else:
        skipped = [f"{counts[name]:,} {words}" for name, words in _SKIPPED.items() if counts[name]]
        note = f"; skipped lines: {', '.join(skipped)}" if skipped else ""
        rows = f" and {counts['rows']:,} rows of state" if counts["rows"] else ""
        terminal.print_line(f"{counts['imported']:,} memories{rows} imported{note}")
    if counts["bad"]:
        raise typer.Exit(1)


def _check_file(file: IO[bytes], *, strict: bool) -> tuple[int, frozenset[int]]:
    """Check all lines before any is sent: the count of valid lines, and the numbers of the invalid ones.

    Raises InvalidRequest if it is not an export, OperationRefused for a damaged file and, if `strict`, for an invalid line.
    """
    import time

    from lorestream.admin.export_format import check_header, parse_line
    from lorestream.cli.admin import export_file
    from lorestream.errors import InvalidRequest, OperationRefused

    numbered_lines = export_file.lines(file)
    check_header(next(numbered_lines, (0, b""))[1])
    good, now, last = 0, time.time(), 0
    bad: dict[int, str] = {}
    for number, text in numbered_lines:
        last = number
        try:
            parse_line(text, now)
            good += 1
        except InvalidRequest as error:
            if strict:
                raise OperationRefused(f"line {number}: {error.message}; nothing was imported") from error
            bad[number] = error.message if len(bad) < SHOWN_BAD_LINES else ""
    if last in bad and export_file.ends_within_a_line(file):
        raise OperationRefused(
            f"the file breaks off in line {last}, so memories are missing at its end; nothing was imported:"
            " export again, or remove that line to import the others"
        )
    for number, reason in bad.items():
        if reason:
            _print_bad_line({"line": number, "reason": reason})
    return good, frozenset(bad)


def _batches(file: IO[bytes], bad: frozenset[int]) -> Iterator[list[tuple[int, str]]]:
    """The valid lines with their numbers, in batches that fit into one request."""
    from lorestream.cli.admin import export_file

    numbered_lines = export_file.lines(file)
    next(numbered_lines)
    batch: list[tuple[int, str]] = []
    size = 0
    for number, text in numbered_lines:
        if number in bad:
            continue
        if batch and (size + len(text) > _BATCH_BYTES or len(batch) == _BATCH_LINES):
            yield batch
            batch, size = [], 0
        batch.append((number, text.decode()))
        size += len(text)
    if batch:
        yield batch


def _print_bad_line(row: dict[str, Any]) -> None:
    from lorestream.cli import terminal

    terminal.print_note(f"line {row['line']}: {row['reason']}")
