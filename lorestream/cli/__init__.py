"""The command line: `lorestream VERB`. Exit codes: 0 done, 1 a fault, 2 wrong usage, 3 unhealthy."""

import sys


def main() -> None:
    """Run the command line and end the process."""
    from lorestream.errors import LorestreamError  # noqa: PLC0415

    try:
        from lorestream.cli.app import app  # noqa: PLC0415
    except ModuleNotFoundError as error:
        sys.exit(_not_installed(error))

    try:
        for argument in sys.argv:
            argument.encode()
    except UnicodeEncodeError:
        sys.exit(_complain("what you typed is not UTF-8", 2))
    try:
        app(prog_name="lorestream")
    except LorestreamError as error:
        sys.exit(_complain(str(error), 1))
    except ModuleNotFoundError as error:
        sys.exit(_not_installed(error))


def _not_installed(error: ModuleNotFoundError) -> int:
    """Say what to install. The command line, like the services, needs the packages of the extra `server`."""
    sys.stderr.write(
        f"lorestream: the package {error.name} is not installed, because this is a client installation:"
        " type `pip install '.[server]'` in a checkout of Lorestream\n"
    )
    return 1


def _complain(message: str, code: int) -> int:
    """One line, whatever a server put into its message."""
    from lorestream.telemetry import printable  # noqa: PLC0415

    sys.stderr.write(f"lorestream: {printable(' '.join(message.split()))}\n")
    return code
