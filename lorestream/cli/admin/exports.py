"""`lorestream export` and `lorestream import`: memories as JSON Lines, out of one lorestream and into another."""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; help must be instant)

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import IO, Annotated, Any

import typer

from lorestream.cli import options
from lorestream.cli.options import LOCAL, AsJson

SHOWN_BAD_LINES = 10
_BATCH_BYTES = 400 * 1024  # of lines; as strings of JSON at most twice that
_BATCH_LINES = 500
_BATCHES_AHEAD = 4
"""So many portions may wait for the workers: what is written meanwhile by others waits no longer than these."""

_SKIPPED = {
    "present": "already there",
    "deleted": "deleted before",
    "erased": "erased before",
    "expired": "expired",
    "bad": "bad lines",
}


def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; .jsonl is not packed, - is stdout.")],
    agent: Annotated[
        list[str] | None, typer.Option(metavar="AGENT", help="Only this agent's; may be repeated.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's. Default: every tenant's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    url: Annotated[str, options.url("The lorestream to export.")] = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Write all memories, or some agents', into a file of JSON Lines (packed by zstd).

    What has expired or was erased is left out. Vectors are not written: an import computes them anew.

    \b
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
        outcome = runner.carry_out(
            "export",
            {"agents": agent or [], "tenant": tenant},
            url=url,
            on_row=lambda row: write(encoder.encode(row) + b"\n"),
        )
    left_out = [f"{outcome[name]:,} {name}" for name in ("erased", "expired") if outcome[name]]
    note = f"; left out: {', '.join(left_out)}" if left_out else ""
    if as_json and file != export_file.STANDARD:
        terminal.print_json({"file": file, **outcome})
    else:
        terminal.print_note(f"{outcome['memories']:,} memories in {'stdout' if file == '-' else file}{note}")


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An export, packed or not; - is stdin.")],
    strict: Annotated[
        bool, typer.Option("--strict", help="Take nothing from a file with a bad line.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until all of it can be found.")] = True,
    url: Annotated[str, options.url("The lorestream to import into.")] = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Put exported memories back, each with its id, its acceptance and its expiry.

    What is there already, has expired, or was deleted or erased since is skipped: to import twice changes nothing.
    Ends with 1 when there were bad lines.

    \b
    lorestream import memories.jsonl.zst
    ssh elsewhere lorestream export - | lorestream import -
    """
    from lorestream.cli import terminal
    from lorestream.cli.admin import export_file, runner

    counts: Counter[str] = Counter()
    positions: dict[int, int] = {}
    ahead = deque[dict[int, int]](maxlen=_BATCHES_AHEAD)
    with export_file.reading(file) as opened:
        numbers, bad = _survey(opened, strict=strict)

        def take(outcome: dict[str, Any]) -> None:
            for partition, offset in outcome.pop("positions", {}).items():
                positions[int(partition)] = max(offset, positions.get(int(partition), -1))
            ahead.append(dict(positions))
            if outcome.get("stalled"):
                terminal.print_note("no worker gets on: what is imported is found when one does")
                counts["stalled"] = 1
            counts.update({name: outcome[name] for name in ("imported", *_SKIPPED) if name in outcome})
            if outcome.get("indexed") is False:
                terminal.print_note(f"about {outcome['left']:,} records still wait for a worker")

        def calls() -> Iterator[tuple[str, dict[str, Any]]]:
            done = 0
            for batch in _batches(opened, bad):
                behind = ahead[0] if len(ahead) == _BATCHES_AHEAD and not counts["stalled"] else {}
                yield "import", {"lines": batch, "done": done, "total": numbers, "behind": behind}
                done += len(batch)
            if wait and positions:
                yield "indexed", {"positions": positions}

        runner.carry_out_each(calls(), url=url, on_row=_bad_line, on_outcome=take)
    counts["bad"] += len(bad)
    if as_json:
        terminal.print_json({name: counts[name] for name in ("imported", *_SKIPPED)})
    else:
        skipped = [f"{counts[name]:,} {words}" for name, words in _SKIPPED.items() if counts[name]]
        note = f"; skipped: {', '.join(skipped)}" if skipped else ""
        terminal.print_line(f"{counts['imported']:,} memories imported{note}")
    if counts["bad"]:
        raise typer.Exit(1)


def _survey(file: IO[bytes], *, strict: bool) -> tuple[int, frozenset[int]]:
    """How many good lines the file has, and the numbers of the bad ones; before any of it is sent.

    Raises InvalidRequest for what is no export, OperationRefused for a damaged file and, if `strict`, for a bad line.
    """
    import time

    from lorestream.admin.export_format import check_header, parse_line
    from lorestream.cli.admin import export_file
    from lorestream.errors import InvalidRequest, OperationRefused

    each = export_file.lines(file)
    check_header(next(each, (0, b""))[1])
    good, bad, now = 0, set[int](), time.time()
    for number, text in each:
        try:
            parse_line(text, now)
            good += 1
        except InvalidRequest as error:
            if strict:
                raise OperationRefused(f"line {number}: {error.message}; nothing was imported") from error
            if len(bad) < SHOWN_BAD_LINES:
                _bad_line({"line": number, "reason": error.message})
            bad.add(number)
    return good, frozenset(bad)


def _batches(file: IO[bytes], bad: frozenset[int]) -> Iterator[list[tuple[int, str]]]:
    """The good lines with their numbers, in portions that a request holds."""
    from lorestream.cli.admin import export_file

    each = export_file.lines(file)
    next(each)
    batch: list[tuple[int, str]] = []
    size = 0
    for number, text in each:
        if number in bad:
            continue
        if batch and (size + len(text) > _BATCH_BYTES or len(batch) == _BATCH_LINES):
            yield batch
            batch, size = [], 0
        batch.append((number, text.decode()))
        size += len(text)
    if batch:
        yield batch


def _bad_line(row: dict[str, Any]) -> None:
    from lorestream.cli import terminal

    terminal.print_note(f"line {row['line']}: {row['reason']}")
