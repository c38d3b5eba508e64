"""How to reach a Kafka cluster, and what its errors mean.

Every other module of the Kafka adapters takes a `KafkaConnection`, and does its calls within `translated`.
"""

from __future__ import annotations

import asyncio
import contextlib
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

CALL_TIMEOUT_S = 1.8
"""What a call that somebody waits for may take: callers are promised an answer within 2 s."""

START_TIMEOUT_S = 10.0
"""What a new client may take until it can be used; nobody waits for it but a process at its start."""

_REQUEST_TIMEOUT_MS = 10_000
_CHECK_TIMEOUT_S = 5.0
_CLOSE_TIMEOUT_S = 0.2

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
    """Where the brokers are, and who we are to them. The field names are those of the settings of `log`."""

    bootstrap: str
    """`host:port`, several with commas."""
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    """None: the authorities that the system trusts."""
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None

    def arguments(self) -> dict[str, Any]:
        """What every client of aiokafka takes. Reads the TLS files. Raises Misconfigured."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "client_id": "lorestream",
            "security_protocol": self.security_protocol,
            "request_timeout_ms": _REQUEST_TIMEOUT_MS,
        }
        if self.security_protocol.startswith("SASL"):
            if self.sasl_username is None or self.sasl_password is None:
                raise Misconfigured(f"set sasl_username and sasl_password for {self.security_protocol}")
            arguments["sasl_mechanism"] = self.sasl_mechanism
            arguments["sasl_plain_username"] = self.sasl_username
            arguments["sasl_plain_password"] = self.sasl_password
        if self.security_protocol.endswith("SSL"):
            arguments["ssl_context"] = self._tls()
        return arguments

    async def check(self) -> None:
        """Log in to one broker. Raises Unavailable when none answers, Misconfigured when it sends us away.

        The clients try all brokers and keep the reasons to themselves: this is where they are told.
        """
        arguments = self.arguments()
        failure: Exception | None = None
        for host, port, _ in collect_hosts(arguments.pop("bootstrap_servers")):
            try:
                await _log_in(AIOKafkaConnection(host, port, **arguments))
            except (kafka.KafkaError, OSError, TimeoutError, AssertionError) as error:
                failure = error
                if isinstance(error, (*_LOGIN_ERRORS, *_MECHANISM_ERRORS, ssl.SSLError)):
                    break
            else:
                return
        if failure is not None:
            with self.translated("log in"):
                raise failure

    @contextmanager
    def translated(self, doing: str) -> Generator[None]:
        """Raises Misconfigured for what somebody has to mend, and Unavailable for every other error of Kafka."""
        try:
            yield
        except _LOGIN_ERRORS as error:
            raise Misconfigured(
                f"Kafka at {self.bootstrap} refuses the login: check sasl_username and sasl_password ({error})"
            ) from error
        except _MECHANISM_ERRORS as error:
            raise Misconfigured(
                f"Kafka at {self.bootstrap} does not take sasl_mechanism={self.sasl_mechanism}: {error}"
            ) from error
        except _PERMISSION_ERRORS as error:
            raise Misconfigured(
                f"Kafka does not let {self.sasl_username or 'anonymous clients'} {doing}: grant it in its ACLs"
                f" ({error})"
            ) from error
        except kafka.InvalidSessionTimeoutError as error:
            raise Misconfigured(
                "session_timeout_s is not within group.min.session.timeout.ms and group.max.session.timeout.ms"
                f" of Kafka at {self.bootstrap}: change it"
            ) from error
        except kafka.UnknownTopicOrPartitionError as error:
            raise Misconfigured(f"a topic is missing at Kafka ({self.bootstrap}): create it") from error
        except ssl.SSLError as error:
            raise Misconfigured(
                f"no TLS with Kafka at {self.bootstrap}: check security_protocol, ssl_cafile and ssl_certfile"
                f" ({error})"
            ) from error
        except (kafka.KafkaError, OSError, TimeoutError) as error:
            raise Unavailable(f"Kafka cannot {doing} at present: {error!r}") from error

    @contextmanager
    def serving(self, doing: str) -> Generator[None]:
        """As `translated`, in a process that serves: what somebody has to mend is logged, and an outage until then."""
        try:
            with self.translated(doing):
                yield
        except Misconfigured as error:
            _log.error("Kafka is set up wrongly", error=str(error))
            raise Unavailable(str(error)) from error

    def _tls(self) -> ssl.SSLContext:
        try:
            return create_ssl_context(
                cafile=self.ssl_cafile, certfile=self.ssl_certfile, keyfile=self.ssl_keyfile
            )
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(
                f"the TLS files of Kafka cannot be read: check ssl_cafile, ssl_certfile and ssl_keyfile ({error})"
            ) from error


async def close_within_timeout(ending: Awaitable[object]) -> None:
    """Wait for a client to close, but not for long: a broker that hangs must hang nobody else."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CALL_TIMEOUT_S):
            await ending


async def _log_in(connection: AIOKafkaConnection) -> None:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            await connection.connect()
    finally:
        # None, or a future that never ends, when there was nothing to close.
        closed: Any = connection.close()
        if closed is not None:
            await asyncio.wait({closed}, timeout=_CLOSE_TIMEOUT_S)
