"""Options that several verbs share, and the default address of the server."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Optional

import typer
from typer.models import OptionInfo

LOCAL = "http://127.0.0.1:8080"

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
DataDir = Annotated[
    Optional[Path],  # noqa: UP045 (typer reads it)
    typer.Option("--data", help="The data directory. Default: LORESTREAM_DATA_DIR."),
]
QueryUrl = Annotated[
    Optional[str],  # noqa: UP045 (typer reads it)
    typer.Option(
        "--query-url", envvar="LORESTREAM_QUERY_URL", help="The server for reads, if it is another one."
    ),
]


def url(help_: str) -> OptionInfo:
    """The option --url, the address of the server; `help_` says what for."""
    option: OptionInfo = typer.Option("--url", envvar="LORESTREAM_URL", help=help_)
    return option


def finite(value: float | None) -> float | None:
    """The callback of an option with a number: refuses NaN and infinity (exit code 2)."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("a finite number is needed")
    return value


def dry_run(help_: str = "Only print what would be done. Changes nothing.") -> OptionInfo:
    """The option --dry-run."""
    option: OptionInfo = typer.Option("--dry-run", help=help_)
    return option


Url = Annotated[str, url("The server.")]
DryRun = Annotated[bool, dry_run()]
