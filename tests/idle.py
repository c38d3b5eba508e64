"""Runs a command in the scheduling class SCHED_IDLE: `python -m tests.idle COMMAND ARGUMENTS`.

The command and all processes that it starts get only the CPU time that others leave (sched(7)). So the tests that
compare times with what is promised can run beside the others, see `make test`. Niceness is not enough: a worker lowers
its own by 15, and would then have less weight than the tests beside it. Where Linux refuses the class, the command
runs without it.

`python -m tests.idle --check` says whether that works here, and ends with 1 if it does not.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

_AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")


def obstacle() -> str | None:
    """Why SCHED_IDLE has no effect on this machine; None if it has. It applies to this process from then on."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError) as error:
        return f"the class SCHED_IDLE is not available ({error})"
    # With autogroups, the class counts only among the processes of one session, and services get a session each.
    if _AUTOGROUP.exists() and _AUTOGROUP.read_text().strip() != "0":
        return f"{_AUTOGROUP} is not 0"
    return None


def main() -> None:
    why = obstacle()
    if sys.argv[1:] == ["--check"]:
        when = f"after the others: {why}" if why else "beside the others, which get SCHED_IDLE"
        print(f"The tests marked `alone` run {when}")
        sys.exit(why is not None)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore Ctrl-C
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
