"""How verbs speak: data on stdout, progress and remarks on stderr, nothing that could steer a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from lorestream.telemetry import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress

WIDTH_OF_A_PIPE = 160


def print_line(text: str) -> None:
    """A line of data for people."""
    sys.stdout.write(printable(text) + "\n")


def print_note(text: str) -> None:
    """A line beside the data."""
    sys.stderr.write(printable(text) + "\n")


def print_json(value: object, *, pretty: bool = True) -> None:
    """A value as JSON. At a terminal everything beyond ASCII is escaped, so that no text steers it."""
    plain = msgspec.to_builtins(value)
    text = json.dumps(plain, ensure_ascii=sys.stdout.isatty(), indent=2 if pretty else None)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_renderable(table: RenderableType) -> None:
    """A table or another renderable of Rich on stdout."""
    _console().print(table)


def print_table(
    columns: Mapping[str, str], rows: Sequence[Sequence[object]], title: str | None = None
) -> None:
    """Print rows under columns; each column's value is its alignment. Texts may come from anywhere."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    made = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, align in columns.items():
        made.add_column(name, justify="right" if align == "right" else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(str(cell))) for cell in row))
    print_renderable(made)


def progress_bar(*, notes: bool = False) -> Progress:
    """A progress bar on stderr, silent where stderr is no terminal. `notes`: each task has a field `note`."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    if notes:
        columns.append(TextColumn("{task.fields[note]}"))
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


def local_time(timestamp: float) -> str:
    """Local time; the date only where it isn't today."""
    try:
        moment = time.localtime(timestamp)
    except (OverflowError, OSError, ValueError):
        return str(timestamp)
    today = time.localtime()[:3] == moment[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", moment)


def json_object(text: str | None, option: str) -> dict[str, Any] | None:
    """The JSON object that an option holds. Raises typer.BadParameter, which ends with exit code 2."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        example = """'{"type": "dig"}'"""
        raise typer.BadParameter(
            f"not a JSON object ({error}); it looks like {example}", param_hint=option
        ) from error


def confirm(question: str, *, yes: bool) -> None:
    """Ask at a terminal; without one, --yes is needed. Ends with code 1 on a no, 2 where nobody can be asked."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise typer.BadParameter("nobody can be asked here: add --yes, or --dry-run to look first")
    typer.confirm(printable(question), abort=True, err=True)


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415

    console = Console()
    return console if console.is_terminal else Console(width=WIDTH_OF_A_PIPE)
