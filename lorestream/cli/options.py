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


def seconds(text: str, option: str, also: str = "") -> float:
    """Parse Unix seconds or an ISO 8601 time (UTC if it has no zone).

    Raises typer.BadParameter that names the option; `also`: what else may be given for it, such as "earliest, ".
    """
    from datetime import UTC, datetime  # noqa: PLC0415 (help must be instant)

    from lorestream.limits import is_time  # noqa: PLC0415

    try:
        found = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            found = math.nan
        else:
            found = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not is_time(found):
        message = f"{text!r} is not a time: give {also}Unix seconds, or a time such as 2026-01-31T12:00:00Z"
        raise typer.BadParameter(message, param_hint=option)
    return found


def dry_run(help_: str = "Only print what would be done. Changes nothing.") -> OptionInfo:
    """The option --dry-run."""
    option: OptionInfo = typer.Option("--dry-run", help=help_)
    return option


Url = Annotated[str, url("The server.")]
DryRun = Annotated[bool, dry_run()]
