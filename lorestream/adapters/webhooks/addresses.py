"""Which addresses a webhook may have. An address in a private network would reach services that its tenant cannot."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TypeAlias

_Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class AllowedAddresses:
    """Public addresses; those of this machine with `loopback`; all with `private`."""

    private: bool = False
    loopback: bool = False

    def admit(self, address: str) -> bool:
        """Whether an IP address, as a resolver returns it, may be reached."""
        inner = _embedded(ipaddress.ip_address(address.partition("%")[0]))
        if self.private or (self.loopback and inner.is_loopback):
            return True
        return inner.is_global and not inner.is_multicast


def _embedded(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 address leads to, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)
