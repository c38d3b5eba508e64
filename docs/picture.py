"""Writes what a command prints on a terminal as an SVG file: `python docs/picture.py FILE.svg COMMAND…`.

docs/demo.svg is made with a new Lorestream running on the default port (the demo adds its memories to it):

    python docs/picture.py docs/demo.svg lorestream demo --questions 6
"""

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
"""The size of the pseudo-terminal, in characters."""


def terminal_output(command: list[str]) -> str:
    """The command's stdout as a terminal gets it, with colours. stderr (progress bars) is discarded.

    Raises CalledProcessError when the command fails.
    """
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
    with subprocess.Popen(command, stdout=child, stderr=subprocess.DEVNULL, env=environment) as process:
        os.close(child)
        output = b""
        while True:
            try:
                chunk = os.read(parent, 65_536)
            except OSError:  # Linux reports the end of a pseudo-terminal as an error
                break
            output += chunk
    os.close(parent)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return output.decode().replace("\r\n", "\n")


def main() -> None:
    """Run the command and write the picture."""
    path, command = sys.argv[1], sys.argv[2:]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(f"$ {' '.join(command)}\n" + terminal_output(command)))
    picture = console.export_svg(title="lorestream", unique_id="demo")
    # Rich's style loads its font from the network; without it the reader's own monospace font is used.
    Path(path).write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
