"""The command line in this process: a new one for each verb takes a second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from typer.testing import CliRunner

from lorestream.cli.app import app
from lorestream.errors import LorestreamError


@dataclass
class Ended:
    """What a verb has printed."""

    stdout: bytes
    stderr: bytes


def lorestream(*arguments: str, environment: Mapping[str, str], code: int = 0, stdin: bytes = b"") -> Ended:
    """Run `lorestream ARGUMENTS`, which has to end with `code`, in our environment and the one given."""
    ended = CliRunner().invoke(app, arguments, input=stdin, env=environment)
    stderr = ended.stderr_bytes or b""
    if isinstance(ended.exception, LorestreamError):  # main() prints it in one line
        stderr += str(ended.exception).encode()
    assert ended.exit_code == code, (ended.output, ended.exception)
    return Ended(ended.stdout_bytes, stderr)
