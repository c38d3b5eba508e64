"""The command line: `engram VERB`. Exit codes: 0 done, 1 a fault, 2 wrong usage, 3 unhealthy."""

import sys


def main() -> None:
    """Run the command line and end the process."""
    from engram.cli.app import app  # noqa: PLC0415
    from engram.errors import EngramError  # noqa: PLC0415

    try:
        for argument in sys.argv:
            argument.encode()
    except UnicodeEncodeError:
        sys.exit(_complain("what you typed is not UTF-8", 2))
    try:
        app(prog_name="engram")
    except EngramError as error:
        sys.exit(_complain(str(error), 1))


def _complain(message: str, code: int) -> int:
    """One line, whatever a server put into its message."""
    from engram.telemetry import printable  # noqa: PLC0415

    sys.stderr.write(f"engram: {printable(' '.join(message.split()))}\n")
    return code
