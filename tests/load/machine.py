"""What a measurement says of the machine it was made on."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, cores, and `noise`: how many times longer a second of computing takes because of other programs.

    `noise` is 1.0 on an idle machine. Takes a second.
    """
    began, cpu = time.perf_counter(), time.process_time()
    while time.process_time() - cpu < 1:
        sum(range(1000))
    return {"processor": _processor(), "cores": os.cpu_count(), "noise": time.perf_counter() - began}


def busy(machine_: dict[str, Any]) -> str:
    """A sentence that says that other programs ran during the measurement; empty if none did."""
    if machine_["noise"] < 1.1:
        return ""
    return f" Other programs took CPU time: a second of computing took {machine_['noise']:.1f} s."


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
