"""What an IP address is good for: may a stranger name it to us, and who shares a network with whom."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from ethsync.wire.enr import IPAddress

IPNetwork: TypeAlias = "IPv4Network | IPv6Network"

Subnet: TypeAlias = "tuple[int, int]"
"""IP version and leading bits: what addresses of one subnet have in common."""

_SPECIAL: tuple[IPNetwork, ...] = tuple(
    ip_network(block)
    for block in (
        "0.0.0.0/8", "192.0.0.0/29", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
        "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "255.255.255.255/32",
        "::/128", "100::/64", "2001::/32", "2001:2::/48", "2001:10::/28", "2001:20::/28", "2001:db8::/32", "2002::/16",
    )
)  # fmt: skip
"""Networks where no node can be (IANA special-purpose registries, RFC 6890): documentation, benchmarks, relays."""

_LAN: tuple[IPNetwork, ...] = tuple(
    ip_network(block)
    for block in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip
"""Private and link-local networks, and those that providers share out behind their own address translation (RFC 1918,
RFC 3927, RFC 4193, RFC 4291, RFC 6598)."""

SUBNET_BITS_4 = 24
SUBNET_BITS_6 = 64
"""Who has one address of such a network usually has them all (a hosting customer's /24 at most, a household's /64)."""


def is_loopback(ip: IPAddress) -> bool:
    """Whether an address means this machine."""
    return ip.is_loopback


def is_lan(ip: IPAddress) -> bool:
    """Whether an address is private or link-local: nearby, behind the same router or the same provider's."""
    return any(ip in network for network in _LAN if network.version == ip.version)


def is_usable(ip: IPAddress) -> bool:
    """Whether a node can be there at all: not unspecified, multicast or reserved for other purposes."""
    return not (ip.is_unspecified or ip.is_multicast) and not any(
        ip in network for network in _SPECIAL if network.version == ip.version
    )


def is_public(ip: IPAddress) -> bool:
    """Whether an address can be reached from everywhere."""
    return is_usable(ip) and not is_loopback(ip) and not is_lan(ip)


def is_relayable(ip: IPAddress, source: IPAddress) -> bool:
    """Whether a node at `source` may tell us of a node at `ip`.

    A stranger must not make us send packets into our own machine or network (go-ethereum p2p/netutil,
    CheckRelayAddr).
    """
    if not is_usable(ip):
        return False
    if is_loopback(ip):
        return is_loopback(source)
    return not is_lan(ip) or is_lan(source) or is_loopback(source)


def subnet(ip: IPAddress) -> Subnet:
    """The /24 of an IPv4 address, the /64 of an IPv6 address."""
    if isinstance(ip, IPv4Address):
        return 4, int(ip) >> (32 - SUBNET_BITS_4)
    return 6, int(ip) >> (128 - SUBNET_BITS_6)
