"""One signed request to a webhook."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
from collections.abc import AsyncGenerator, Mapping
from typing import Self

import httpx2

from lorestream import __version__
from lorestream.adapters.webhooks.addresses import AllowedAddresses
from lorestream.errors import InvalidRequest
from lorestream.webhooks import DeliveryFailed

TIMEOUT_S = 10.0
"""Limit of a request, with the look-up of the address."""
MAX_URL_CHARS = 2048

_GONE = 410
_MAX_PORT = 65_535
_HOST_NAME = re.compile(r"(?=.{1,253}\.?\Z)(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
"""A name that a look-up can find, in its ASCII form, lower case. Underscores occur in names of containers."""
_HOW_TO_ALLOW = "set LORESTREAM_WEBHOOKS__ALLOW_PRIVATE=true if webhooks may reach it"


class HttpWebhookPost:
    """A WebhookPost (lorestream.ports.webhooks). Connects to the address that it has checked, not to a later one."""

    def __init__(self, allowed: AllowedAddresses) -> None:
        self._allowed = allowed
        self._client: httpx2.AsyncClient | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, allowed: AllowedAddresses) -> AsyncGenerator[Self]:
        """Until the context ends. The client, with its certificates, is made for the first request."""
        self = cls(allowed)
        try:
            yield self
        finally:
            if self._client is not None:
                await self._client.aclose()

    def check(self, url: str) -> None:
        """Raises InvalidRequest for what is no address of HTTP, or is one of a private network by its number."""
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise InvalidRequest(f"this is not a URL: {error}", path="url") from error
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise InvalidRequest("a URL that begins with http:// or https:// is needed", path="url")
        if len(url) > MAX_URL_CHARS or parsed.fragment:
            raise InvalidRequest(
                f"a URL has no fragment here, and at most {MAX_URL_CHARS:,} characters", path="url"
            )
        if parsed.userinfo:
            raise InvalidRequest(
                "a URL has no user and password here: the signature says who sends", path="url"
            )
        if parsed.port is not None and not 1 <= parsed.port <= _MAX_PORT:
            raise InvalidRequest(f"{parsed.port} is not a port: 1 to {_MAX_PORT:,} are", path="url")
        try:
            address = str(ipaddress.ip_address(parsed.host))
        except ValueError:
            if not _HOST_NAME.fullmatch(parsed.raw_host.decode("ascii")):
                raise InvalidRequest(f"{parsed.host} is not the name of a host", path="url") from None
        else:
            if not self._allowed.admit(address):
                raise InvalidRequest(f"{address} is not a public address: {_HOW_TO_ALLOW}", path="url")

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """POST the body once; the status. Raises DeliveryFailed, and does not follow redirects."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status = await self._send(httpx2.URL(url), body, headers)
        except TimeoutError:
            raise DeliveryFailed(f"no answer within {TIMEOUT_S:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as error:
            # UnicodeError: a name that cannot be looked up, of a webhook made before these were refused.
            raise DeliveryFailed(str(error) or type(error).__name__) from error
        if httpx2.codes.is_redirect(status):
            raise DeliveryFailed(f"answered with {status}: redirects are not followed, give the final URL")
        if not httpx2.codes.is_success(status):
            raise DeliveryFailed(f"answered with {status}", gone=status == _GONE)
        return status

    async def _send(self, url: httpx2.URL, body: bytes, headers: Mapping[str, str]) -> int:
        # A name may lead elsewhere at the next look-up, so the request goes to the address that was checked.
        address = await self._address(url)
        if self._client is None:
            # No connection is used again: they are kept by address, and two hosts may have one address.
            self._client = httpx2.AsyncClient(
                trust_env=False,
                headers={"User-Agent": f"lorestream/{__version__}"},
                limits=httpx2.Limits(max_keepalive_connections=0),
                timeout=None,  # `send` limits the whole request
            )
        request = self._client.build_request(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers={**headers, "Content-Type": "application/json", "Host": url.netloc.decode()},
            extensions={"sni_hostname": url.host},
        )
        response = await self._client.send(request, stream=True)
        await response.aclose()  # what it says beside its status is not needed
        return response.status_code

    async def _address(self, url: httpx2.URL) -> str:
        port = url.port or (443 if url.scheme == "https" else 80)
        found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        addresses = [str(one[4][0]) for one in found]
        for address in addresses:
            if not self._allowed.admit(address):
                raise DeliveryFailed(
                    f"{url.host} leads to {address}, which is not a public address: {_HOW_TO_ALLOW}"
                )
        return addresses[0]
