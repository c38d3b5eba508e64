"""A service that is told to stop while it starts, and waits for an engine that does not answer."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.processes import clean_environment

pytestmark = pytest.mark.alone


@pytest.mark.parametrize("verb", ["gateway", "worker", "query"])
def test_a_stop_during_the_start_is_heeded(verb: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as broker:
        settings = {
            "LORESTREAM_LOG__BOOTSTRAP": f"127.0.0.1:{broker.getsockname()[1]}",
            "LORESTREAM_STORE__URL": "http://127.0.0.1:1",
            "LORESTREAM_PLAYER_KEY": "k1:test",
            "LORESTREAM_EMBEDDER__KIND": "hash",
        }
        ports = ["--metrics-port", "0"] if verb == "worker" else ["--port", "0", "--grpc-port", "0"]
        starting = subprocess.Popen(
            [sys.executable, "-m", "lorestream.cli", verb, *ports],
            env=clean_environment() | settings,
            stderr=subprocess.PIPE,
            text=True,
        )
        broker.settimeout(30)
        connection, _ = broker.accept()  # and says nothing
        with connection:
            asked = time.monotonic()
            starting.send_signal(signal.SIGTERM)
            _, said = starting.communicate(timeout=30)
    # Not by the signal's own default, which the first process of a container does not have.
    assert starting.returncode == 128 + signal.SIGTERM, said
    assert time.monotonic() - asked < 3
    assert "Traceback" not in said
