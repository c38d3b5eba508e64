"""The ports of a service: taken before it says that it is up, each refusal one line that says what to do."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import typer

from lorestream.cli.serve.commands import _listening, _listening_beside_grpc
from lorestream.errors import Misconfigured
from tests.command_line import lorestream
from tests.processes import free_port


def test_two_services_that_start_on_one_port_at_the_same_moment() -> None:
    """Both bind before either serves: the second is refused, and a client of the first already waits for it."""
    with _listening("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with (
            pytest.raises(
                Misconfigured, match=rf"port {port}.*\(process {os.getpid()}\).*--metrics-port"
            ) as refused,
            _listening("127.0.0.1", port, option="--metrics-port"),
        ):
            pass
        assert "\n" not in str(refused.value)
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            first.accept()[0].close()


SHARED = {"LORESTREAM_LOG__BOOTSTRAP": "127.0.0.1:1", "LORESTREAM_STORE__URL": "http://127.0.0.1:1"}
SETTINGS = {"up": {}, "gateway": SHARED, "query": SHARED}


@pytest.mark.parametrize("verb", SETTINGS)
def test_a_grpc_port_in_use_is_said_before_anything_is_opened(verb: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        data = {"LORESTREAM_DATA_DIR": str(tmp_path / "data"), "LORESTREAM_EMBEDDER__KIND": "hash"}
        ports = ("--port", "0", "--grpc-port", str(port))
        said = lorestream(verb, *ports, code=1, environment={**SETTINGS[verb], **data})
    [line] = said.stderr.decode().splitlines()
    assert f"port {port} on 127.0.0.1 is in use by" in line
    assert f"--grpc-port {port % 65535 + 1}" in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("verb", SETTINGS)
def test_one_port_for_http_and_grpc_is_wrong_usage(verb: str) -> None:
    port = str(free_port())
    said = lorestream(verb, "--port", port, "--grpc-port", port, code=2, environment=SETTINGS[verb])
    assert port in said.stderr.decode()
    assert "--grpc-port" in said.stderr.decode()


def test_any_free_port_twice_is_no_conflict() -> None:
    with _listening_beside_grpc("127.0.0.1", 0, 0) as listener:
        assert listener.getsockname()[1]
    with pytest.raises(typer.BadParameter), _listening_beside_grpc("127.0.0.1", 8080, 8080):
        pass
