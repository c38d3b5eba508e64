"""The command line: `lorestream VERB`. Exit codes: 0 success, 1 error, 2 wrong usage, 3 unhealthy.

    __main__.py  `python -m lorestream.cli`
    app.py       all verbs; doctor, demo, config, model and mod with their options
    options.py   options that several verbs share
    terminal.py  printing: lines, tables, JSON, notes, progress bars, questions
    serve/       up, gateway, worker, query, mcp
    hooks/       hooks create, ls, rm, resume, test
    memories/    put, search, recent, agents, tail, erase, demo
    state/       state get, put, patch, versions, rollback; records, summary
    admin/       dlq, replay, alias, drop, cache, export, import, snapshot, restore
    doctor/      the checks of `lorestream doctor`
    keys/        the API key file
    setup/       config show, model prepare, mod install
    simulate/    the load of many game servers

A module `commands.py` (or the one named after the verb) has only signatures and help texts. It imports the module that
does the work when the verb runs: `lorestream --help` must answer at once.

    $ lorestream put npc:smith "sold a sword" --json
    {"id": "…", "indexed": true, "token": "…"}
    $ echo $?
    0
"""

import io
import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    from lorestream.errors import LorestreamError  # noqa: PLC0415

    try:
        from lorestream.cli.app import app  # noqa: PLC0415
    except ModuleNotFoundError as error:
        sys.exit(_not_installed(error))

    try:
        for argument in sys.argv:
            argument.encode()
    except UnicodeEncodeError:
        sys.exit(_print_error("the arguments are not valid UTF-8: check the terminal's encoding", 2))
    try:
        try:
            app(prog_name="lorestream")
        finally:
            print(end="", flush=True)  # noqa: T201 (an error of the interpreter's own flush cannot be caught)
    except OSError as error:
        sys.exit(_not_written(error))
    except LorestreamError as error:
        sys.exit(_print_error(str(error), 1))
    except ModuleNotFoundError as error:
        sys.exit(_not_installed(error))


def _not_installed(error: ModuleNotFoundError) -> int:
    """Say what to install. The command line, like the services, needs the packages of the extra `server`."""
    sys.stderr.write(
        f"lorestream: the package {error.name} is not installed, because this is a client installation:"
        " type `pip install '.[server]'` in a checkout of Lorestream\n"
    )
    return 1


def _not_written(error: OSError) -> int:
    """Say that the disk under the output is full; nothing if its reader has ended. Raises any other error."""
    from lorestream.durable import MAKE_ROOM, is_full  # noqa: PLC0415

    if not isinstance(error, BrokenPipeError) and not is_full(error):
        raise error
    sys.stdout = io.StringIO()  # what is left in the buffer would fail again
    return 1 if isinstance(error, BrokenPipeError) else _print_error(f"{error}: {MAKE_ROOM}", 1)


def _print_error(message: str, code: int) -> int:
    """Print the error as one line without control characters; return the exit code `code`."""
    from lorestream.telemetry import printable  # noqa: PLC0415

    sys.stderr.write(f"lorestream: {printable(' '.join(message.split()))}\n")
    return code
