"""KafkaConnection: TLS and SASL, wrong settings, translation of errors."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import errors as kafka_errors
from structlog.testing import capture_logs

from deploy.local.kafka import KafkaBroker
from lorestream.adapters.kafka.connection import KafkaConnection
from lorestream.adapters.kafka.dead_letter_records import read_unresolved
from lorestream.adapters.kafka.offsets import commit_for_empty_group
from lorestream.adapters.kafka.reader import KafkaReader
from lorestream.errors import Misconfigured, Unavailable
from tests.brokers import running
from tests.contracts.test_log import kafka as opener_of
from tests.contracts.test_log import read_all, record, values


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for the loopback, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(["openssl", "req", "-x509", *made, *subject], check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KafkaBroker, Path]]:
    """A broker that requires TLS and a password, and its certificate."""
    folder = tmp_path_factory.mktemp("secured")
    cert, key = certificate(folder, "broker")
    chain = folder / "keystore.pem"
    chain.write_text(key.read_text() + cert.read_text())
    listener = "listener.name.clients"
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    settings = {
        f"{listener}.sasl.enabled.mechanisms": "PLAIN",
        f"{listener}.plain.sasl.jaas.config": f'{login} username="broker" password="b" user_broker="b" user_lorestream="s3cret";',
        f"{listener}.ssl.keystore.type": "PEM",
        f"{listener}.ssl.keystore.location": str(chain),
        f"{listener}.ssl.truststore.type": "PEM",
        f"{listener}.ssl.truststore.location": str(cert),
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
    }
    with running(KafkaBroker(folder / "kafka", protocol="SASL_SSL", settings=settings)) as broker:
        yield broker, cert


@pytest.fixture
def connection(secured: tuple[KafkaBroker, Path]) -> KafkaConnection:
    broker, cert = secured
    return KafkaConnection(
        broker.bootstrap,
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_username="lorestream",
        sasl_password="s3cret",
        ssl_cafile=str(cert),
    )


async def test_everything_works_over_tls_with_a_password(connection: KafkaConnection, unique: str) -> None:
    async with opener_of(connection, unique)() as log:
        await log.append([record("secret")])
        assert values(await read_all(log, "indexer", 1)) == [b"secret"]
        assert await log.committed("indexer") == {}


async def test_a_wrong_password_is_reported_without_showing_it(connection: KafkaConnection) -> None:
    wrong = replace(connection, sasl_password="guessed")
    with pytest.raises(Misconfigured, match="sasl_username and sasl_password") as refused:
        await wrong.check()
    assert "guessed" not in str(refused.value) + repr(wrong)


async def test_an_unsupported_sasl_mechanism_is_reported(connection: KafkaConnection) -> None:
    with pytest.raises(Misconfigured, match="sasl_mechanism=SCRAM-SHA-256"):
        await replace(connection, sasl_mechanism="SCRAM-SHA-256").check()


async def test_an_untrusted_certificate_is_reported(connection: KafkaConnection, tmp_path: Path) -> None:
    other, _ = certificate(tmp_path, "other")
    for untrusting in (str(other), None):
        with pytest.raises(Misconfigured, match="ssl_cafile"):
            await replace(connection, ssl_cafile=untrusting).check()


async def test_the_wrong_protocol_does_not_connect(connection: KafkaConnection, kafka: KafkaBroker) -> None:
    with pytest.raises((Unavailable, Misconfigured)):
        await KafkaConnection(connection.bootstrap).check()
    with pytest.raises((Unavailable, Misconfigured)):
        await replace(connection, bootstrap=kafka.bootstrap).check()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"security_protocol": "SASL_PLAINTEXT"}, "sasl_username"),
        ({"security_protocol": "SASL_SSL", "sasl_username": "u"}, "sasl_password"),
        ({"security_protocol": "SSL", "ssl_cafile": "/nowhere/ca.pem"}, "ssl_cafile"),
        ({"security_protocol": "SSL", "ssl_certfile": __file__}, "ssl_certfile"),
    ],
)
def test_unusable_settings_are_reported_before_connecting(settings: dict[str, str], named: str) -> None:
    with pytest.raises(Misconfigured, match=named):
        KafkaConnection("127.0.0.1:1", **settings).arguments()  # type: ignore[arg-type]


async def test_one_reachable_broker_of_several_is_enough(kafka: KafkaBroker) -> None:
    await KafkaConnection(f"127.0.0.1:1,{kafka.bootstrap}").check()
    with pytest.raises(Unavailable):
        await KafkaConnection("127.0.0.1:1,127.0.0.1:2").check()


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (kafka_errors.KafkaConnectionError(), Unavailable),
        (kafka_errors.NotLeaderForPartitionError(), Unavailable),
        (kafka_errors.NoBrokersAvailable(), Unavailable),
        (kafka_errors.KafkaTimeoutError(), Unavailable),
        (TimeoutError(), Unavailable),
        (ConnectionResetError(), Unavailable),
        (kafka_errors.TopicAuthorizationFailedError("lorestream.events"), Misconfigured),
        (kafka_errors.GroupAuthorizationFailedError("lorestream"), Misconfigured),
        (kafka_errors.ClusterAuthorizationFailedError(), Misconfigured),
        (kafka_errors.UnknownTopicOrPartitionError(), Misconfigured),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else None,
)
def test_errors_become_unavailable_or_misconfigured(error: Exception, becomes: type[Exception]) -> None:
    connection = KafkaConnection("127.0.0.1:1")
    with pytest.raises(becomes) as raised, connection.translate_errors("write records"):
        raise error
    assert raised.value.__cause__ is error


def test_while_serving_a_misconfiguration_is_logged_and_unavailable() -> None:
    connection = KafkaConnection("127.0.0.1:1")
    with (
        capture_logs() as lines,
        pytest.raises(Unavailable, match="ACLs"),
        connection.translate_errors_while_serving("commit offsets"),
    ):
        raise kafka_errors.GroupAuthorizationFailedError("lorestream")
    assert [line["log_level"] for line in lines] == ["error"]


async def test_what_is_opened_while_serving_is_unavailable_when_its_files_are_gone() -> None:
    """Such as the certificates, which are being replaced."""
    connection = KafkaConnection("127.0.0.1:1", security_protocol="SSL", ssl_cafile="/nowhere/ca.pem")
    for opened in (
        KafkaReader.open(connection, topic="events", positions={0: 0}).__aenter__(),
        anext(read_unresolved(connection, "dlq", "events")),
        commit_for_empty_group(connection, "events", "group", {0: 0}),
    ):
        with pytest.raises(Unavailable, match="ssl_cafile"):
            await opened


async def test_a_client_that_fails_as_it_is_closed_hides_no_other_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Consumer:
        def __init__(self, **_: object) -> None:
            self.assign = list[object]

        async def start(self) -> None:
            raise kafka_errors.KafkaConnectionError("no broker")

        async def stop(self) -> None:
            raise OSError("the connection is gone")

    monkeypatch.setattr("lorestream.adapters.kafka.reader.AIOKafkaConsumer", Consumer)
    with pytest.raises(Unavailable, match="no broker"):
        async with KafkaReader.open(KafkaConnection("127.0.0.1:1"), topic="events", positions={0: 0}):
            pass


async def test_a_reader_whose_permission_is_revoked_is_unavailable() -> None:
    class Consumer:
        async def getmany(self, *_: object, **__: object) -> None:
            raise kafka_errors.TopicAuthorizationFailedError("events")

    consumer: Any = Consumer()
    with pytest.raises(Unavailable, match="ACLs"):
        await KafkaReader(KafkaConnection("127.0.0.1:1"), consumer, "events").read(0, limit=1, wait_s=0.0)


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(KeyError), KafkaConnection("127.0.0.1:1").translate_errors("write records"):
        raise KeyError
