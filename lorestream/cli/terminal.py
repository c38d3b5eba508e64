"""Output of verbs: data on stdout, notes and progress on stderr. Control characters in any text are escaped."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from lorestream.limits import json_fault
from lorestream.telemetry import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress

PIPE_WIDTH = 160
"""Columns of a table when stdout is not a terminal."""


def print_line(text: str) -> None:
    """Print a line of data to stdout."""
    sys.stdout.write(printable(text) + "\n")


def print_note(text: str) -> None:
    """Print a line to stderr: a count, a warning, a next step."""
    sys.stderr.write(printable(text) + "\n")


def print_json(value: object, *, pretty: bool = True) -> None:
    """Print a value as JSON. At a terminal, everything beyond ASCII is escaped: no text can control the terminal."""
    plain = msgspec.to_builtins(value)
    text = json.dumps(plain, ensure_ascii=sys.stdout.isatty(), indent=2 if pretty else None)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_renderable(table: RenderableType) -> None:
    """Print a Rich table or another renderable to stdout."""
    _console().print(table)


def print_table(
    columns: Mapping[str, str], rows: Sequence[Sequence[object]], title: str | None = None
) -> None:
    """Print a table. `columns` maps each title to its alignment ("right", otherwise left). Cells may hold any text."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    made = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, align in columns.items():
        made.add_column(name, justify="right" if align == "right" else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(str(cell))) for cell in row))
    print_renderable(made)


def progress_bar(*, notes: bool = False) -> Progress:
    """A progress bar on stderr, disabled if stderr is not a terminal. With `notes`, each task needs a field `note`.

    Descriptions and notes may hold any text: a server names the steps of its tasks.
    """
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    class PlainColumn(TextColumn):
        """A column whose text is shown as it is, without markup and without control characters."""

        def render(self, task: Task) -> Text:
            return Text(printable(" ".join(self.text_format.format(task=task).split())))

    console = Console(stderr=True)
    columns = [PlainColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    if notes:
        columns.append(PlainColumn("{task.fields[note]}"))
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


def local_time(timestamp: float) -> str:
    """Format Unix seconds in local time; with the date unless it is today."""
    try:
        moment = time.localtime(timestamp)
    except (OverflowError, OSError, ValueError):
        return str(timestamp)
    today = time.localtime()[:3] == moment[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", moment)


def json_object(text: str | None, option: str) -> dict[str, Any] | None:
    """Parse the JSON object in an option. Raises typer.BadParameter (exit code 2)."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        example = """'{"type": "dig"}'"""
        raise typer.BadParameter(
            f"not a JSON object ({json_fault(text, error)}); example: {example}", param_hint=option
        ) from error


def read_stdin() -> str:
    """All of stdin. Raises typer.BadParameter (exit code 2) if it is not text in the terminal's encoding."""
    try:
        text = sys.stdin.read()
        text.encode()  # Python may have taken bytes that are no text for lone surrogates
    except UnicodeError as error:
        raise typer.BadParameter("stdin is not valid UTF-8: check its encoding") from error
    return text


def confirm(question: str, *, yes: bool) -> None:
    """Ask for confirmation unless `yes`. Ends with exit code 1 on "no", and with 2 if this is not a terminal."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise typer.BadParameter(
            "cannot ask for confirmation, this is not a terminal: add --yes, or --dry-run to see what would be done"
        )
    typer.confirm(printable(question), abort=True, err=True)


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415

    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)
