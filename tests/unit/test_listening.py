"""The ports of a service: taken before it says that it is up, each refusal one line that says what to do."""

from __future__ import annotations

import os
import socket

import pytest
import typer

from lorestream.cli.serve.commands import _listening, _require_two_ports
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


@pytest.mark.parametrize("verb", ["up", "gateway", "query"])
def test_one_port_for_http_and_grpc_is_wrong_usage(verb: str) -> None:
    port = str(free_port())
    shared = {"LORESTREAM_LOG__BOOTSTRAP": "127.0.0.1:1", "LORESTREAM_STORE__URL": "http://127.0.0.1:1"}
    said = lorestream(
        verb, "--port", port, "--grpc-port", port, code=2, environment={} if verb == "up" else shared
    )
    assert port in said.stderr.decode()
    assert "--grpc-port" in said.stderr.decode()


def test_any_free_port_twice_is_no_conflict() -> None:
    _require_two_ports(0, 0)
    with pytest.raises(typer.BadParameter):
        _require_two_ports(8080, 8080)
