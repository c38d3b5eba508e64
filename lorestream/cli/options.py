"""The options that several verbs share, each spelled out once, and the address that they have by default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from typer.models import OptionInfo

LOCAL = "http://127.0.0.1:8080"

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
DataDir = Annotated[
    Optional[Path],  # noqa: UP045 (typer reads it)
    typer.Option("--data", help="The data directory. Default: LORESTREAM_DATA_DIR."),
]
QueryUrl = Annotated[
    Optional[str],  # noqa: UP045 (typer reads it)
    typer.Option(
        "--query-url", envvar="LORESTREAM_QUERY_URL", help="The lorestream to ask, where that is another."
    ),
]


def url(help_: str) -> OptionInfo:
    """Which lorestream a verb speaks to; `help_` says what it does there."""
    option: OptionInfo = typer.Option("--url", envvar="LORESTREAM_URL", help=help_)
    return option


def dry_run(help_: str = "Only say what would be done.") -> OptionInfo:
    """Changes nothing."""
    option: OptionInfo = typer.Option("--dry-run", help=help_)
    return option


Url = Annotated[str, url("The lorestream that is taken care of.")]
DryRun = Annotated[bool, dry_run()]
