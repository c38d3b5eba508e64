"""Keeps what a command shows in a terminal: `python docs/picture.py FILE.svg COMMAND…`."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, LINES = 118, 60


def shown_by(command: list[str]) -> str:
    """What the command writes to a terminal, colours and all; its progress on stderr is left out."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment):
        os.close(theirs)
        output = b""
        while True:
            try:
                chunk = os.read(ours, 65_536)
            except OSError:  # the terminal has gone with the command
                break
            output += chunk
    return output.decode().replace("\r\n", "\n")


def main() -> None:
    """Write the picture."""
    path, command = sys.argv[1], sys.argv[2:]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(f"$ {' '.join(command)}\n" + shown_by(command)))
    picture = console.export_svg(title="lorestream")
    # Rich asks a font server for its font: the reader's own will do.
    Path(path).write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
