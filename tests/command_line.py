"""Runs the command line in the test's own process: a new process costs a second of CPU time."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from typer.testing import CliRunner

from lorestream.cli import main
from lorestream.cli.app import app
from lorestream.errors import LorestreamError


@dataclass
class CommandOutput:
    """What a command has printed."""

    stdout: bytes
    stderr: bytes


def lorestream(
    *arguments: str, environment: Mapping[str, str], code: int = 0, stdin: bytes = b""
) -> CommandOutput:
    """Run `lorestream ARGUMENTS` in the current environment and the given one; fails unless it exits with `code`."""
    ended = CliRunner().invoke(app, arguments, input=stdin, env=environment)
    stderr = ended.stderr_bytes or b""
    if isinstance(ended.exception, LorestreamError):  # main() prints it in one line
        stderr += str(ended.exception).encode()
    assert ended.exit_code == code, (ended.output, ended.exception)
    return CommandOutput(ended.stdout_bytes, stderr)


def run_main(
    *arguments: str, environment: Mapping[str, str], directory: Path, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `lorestream ARGUMENTS` as a process would: in exactly this environment and working directory, without terminal.

    Returns what `subprocess.run` would return.
    """
    command = ["lorestream", *arguments]
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(sys, "argv", command),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()))),
        contextlib.chdir(directory),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return subprocess.CompletedProcess(command, code, stdout.getvalue(), stderr.getvalue())
