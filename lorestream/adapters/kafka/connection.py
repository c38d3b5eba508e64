"""Connection settings of a Kafka cluster, and the translation of Kafka's errors.

Every other module of this package takes a `KafkaConnection` and wraps its calls into `translate_errors` or
`translate_errors_while_serving`, so that only errors of `lorestream.errors` leave the package.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import structlog
from aiokafka import errors as kafka
from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.helpers import create_ssl_context

from lorestream.errors import Misconfigured, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator

_log = structlog.get_logger("lorestream.kafka")

SecurityProtocol: TypeAlias = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism: TypeAlias = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

CALL_TIMEOUT_S = 1.7
"""Limit of one call to the brokers (append, commit, offsets): HTTP callers are promised an answer within 2 s."""
LEDGER_TIMEOUT_S = 1.8
"""Limit of a call of the erasure ledger, which makes several calls to the brokers."""

CONNECT_TIMEOUT_S = 10.0
"""Limit for a new client to connect. Applies at the start of a process and when a client is replaced."""

_REQUEST_TIMEOUT_MS = 10_000
"""Limit of one request to one broker inside aiokafka. Longer than `CALL_TIMEOUT_S`, which ends the call first."""
_LOGIN_TIMEOUT_S = 5.0
"""Limit of the login to one broker in `KafkaConnection.check`."""
_LOGIN_CLOSE_TIMEOUT_S = 0.2

_LOGIN_ERRORS = (
    kafka.SaslAuthenticationFailed,
    kafka.AuthenticationFailedError,
    kafka.IllegalSaslStateError,
    kafka.SecurityDisabled,
)
_MECHANISM_ERRORS = (kafka.UnsupportedSaslMechanismError, kafka.AuthenticationMethodNotSupported)
_PERMISSION_ERRORS = (
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
)


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Addresses of the brokers and credentials. The field names are those of the settings `LORESTREAM_LOG__...`."""

    bootstrap: str
    """`host:port`; several are separated by commas."""
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    """Path of a PEM file. None: the certificate authorities that the operating system trusts."""
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that every aiokafka client takes.

        Reads the TLS files. Raises Misconfigured when a credential is missing or a TLS file cannot be read.
        """
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "client_id": "lorestream",
            "security_protocol": self.security_protocol,
            "request_timeout_ms": _REQUEST_TIMEOUT_MS,
        }
        if self.security_protocol.startswith("SASL"):
            if self.sasl_username is None or self.sasl_password is None:
                raise Misconfigured(
                    f"security_protocol={self.security_protocol} needs a login: set sasl_username and sasl_password"
                )
            arguments["sasl_mechanism"] = self.sasl_mechanism
            arguments["sasl_plain_username"] = self.sasl_username
            arguments["sasl_plain_password"] = self.sasl_password
        if self.security_protocol.endswith("SSL"):
            arguments["ssl_context"] = self._tls()
        return arguments

    async def check(self) -> None:
        """Log in to one broker of `bootstrap`, the first that answers.

        Raises Unavailable when no broker answers, and Misconfigured when a broker refuses the login or TLS fails.
        aiokafka's clients try all brokers and hide the reasons of their failures; this method reports the reason.
        """
        arguments = self.arguments()
        failure: Exception | None = None
        for host, port, _ in collect_hosts(arguments.pop("bootstrap_servers")):
            try:
                await _login(AIOKafkaConnection(host, port, **arguments))
            except (kafka.KafkaError, OSError, TimeoutError, AssertionError) as error:
                failure = error
                if isinstance(error, (*_LOGIN_ERRORS, *_MECHANISM_ERRORS, ssl.SSLError)):
                    break
            else:
                return
        if failure is not None:
            with self.translate_errors("log in"):
                raise failure

    @contextmanager
    def translate_errors(self, action: str) -> Generator[None]:
        """Translate errors of Kafka, TLS and the network that are raised inside the block.

        Raises Misconfigured for what an operator has to correct (login, ACLs, TLS, a missing topic) and
        Unavailable for every other error of Kafka, OSError and TimeoutError. Other exceptions pass unchanged.
        `action` completes the sentence "cannot ..." in the messages: "commit offsets", "create topics".
        """
        try:
            yield
        except _LOGIN_ERRORS as error:
            raise Misconfigured(
                f"Kafka at {self.bootstrap} refused the login: check sasl_username and sasl_password ({error})"
            ) from error
        except _MECHANISM_ERRORS as error:
            raise Misconfigured(
                f"Kafka at {self.bootstrap} does not support sasl_mechanism={self.sasl_mechanism}: set one that"
                f" the broker offers ({error})"
            ) from error
        except _PERMISSION_ERRORS as error:
            raise Misconfigured(
                f"the Kafka user {self.sasl_username or 'of anonymous clients'} has no permission to {action}: grant it"
                f" in Kafka's ACLs ({error})"
            ) from error
        except kafka.InvalidSessionTimeoutError as error:
            raise Misconfigured(
                "session_timeout_s is not within group.min.session.timeout.ms and group.max.session.timeout.ms"
                f" of Kafka at {self.bootstrap}: change LORESTREAM_LOG__SESSION_TIMEOUT_S or the broker's limits"
            ) from error
        except kafka.UnknownTopicOrPartitionError as error:
            raise Misconfigured(
                f"cannot {action}: a topic is missing at Kafka ({self.bootstrap}); restart Lorestream, which creates"
                " missing topics, or create it"
            ) from error
        except ssl.SSLError as error:
            raise Misconfigured(
                f"TLS with Kafka at {self.bootstrap} failed: check security_protocol, ssl_cafile and ssl_certfile"
                f" ({error})"
            ) from error
        except (kafka.KafkaError, OSError, TimeoutError) as error:
            raise Unavailable(f"Kafka is unavailable, cannot {action}: {error!r}") from error

    @contextmanager
    def translate_errors_while_serving(self, action: str) -> Generator[None]:
        """As `translate_errors`, for a process that has started and serves requests.

        A wrong configuration (such as an ACL that was revoked) must not end the process: it is logged as an error
        and raised as Unavailable, so that callers retry until an operator has corrected it.
        """
        try:
            with self.translate_errors(action):
                yield
        except Misconfigured as error:
            _log.error(
                "Kafka is misconfigured; calls fail as unavailable until it is corrected", error=str(error)
            )
            raise Unavailable(str(error)) from error

    def _tls(self) -> ssl.SSLContext:
        try:
            return create_ssl_context(
                cafile=self.ssl_cafile, certfile=self.ssl_certfile, keyfile=self.ssl_keyfile
            )
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(
                f"cannot read the TLS files for Kafka: check ssl_cafile, ssl_certfile and ssl_keyfile ({error})"
            ) from error


async def close_within_timeout(closing: Awaitable[object]) -> None:
    """Await the `stop()` or `close()` of a client for at most `CALL_TIMEOUT_S`, then cancel it. Its errors are logged.

    A broker that does not answer must not block the process that closes its clients, and nothing depends on a client that
    is closed: what it fails with must not take the place of the error for which it is closed.
    """
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            await closing
    except TimeoutError:
        pass
    except Exception as error:  # noqa: BLE001
        _log.info("a Kafka client was closed with an error", error=repr(error))


async def _login(connection: AIOKafkaConnection) -> None:
    try:
        async with asyncio.timeout(_LOGIN_TIMEOUT_S):
            await connection.connect()
    finally:
        # aiokafka returns None, or a future that never completes, when the connection was never open.
        closed: Any = connection.close()
        if closed is not None:
            await asyncio.wait({closed}, timeout=_LOGIN_CLOSE_TIMEOUT_S)
