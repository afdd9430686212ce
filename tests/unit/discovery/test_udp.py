"""Discovery's UDP sockets: real ones, on loopback."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address

import pytest
import trio

from ethsync.discovery.node import Datagram, Endpoint
from ethsync.discovery.udp import LARGEST_DATAGRAM, Sockets, endpoint_of, open_sockets
from ethsync.errors import ConfigError

LOOPBACK = Endpoint(IPv4Address("127.0.0.1"), 0)
LOOPBACK_6 = Endpoint(IPv6Address("::1"), 0)
LARGEST_UDP = 65_507  # bytes over IPv4 (RFC 768, RFC 791)


async def read(sockets: Sockets, version: int = 4) -> tuple[bytes, Endpoint]:
    with trio.fail_after(5):
        data, address = await sockets.by_version[version].recvfrom(LARGEST_DATAGRAM)
    return data, endpoint_of(address)


async def test_a_datagram_arrives_as_it_was_sent_from_where_the_socket_is_bound() -> None:
    async with open_sockets([LOOPBACK]) as ours, open_sockets([LOOPBACK]) as theirs:
        await ours.send([Datagram(b"one", theirs.bound[0]), Datagram(b"two", theirs.bound[0])])
        assert await read(theirs) == (b"one", ours.bound[0])
        assert await read(theirs) == (b"two", ours.bound[0])
        assert ours.unsent == 0


async def test_both_ip_versions_may_have_the_same_port() -> None:
    async with open_sockets([LOOPBACK]) as first:
        port = first.bound[0].port
        async with open_sockets([Endpoint(LOOPBACK_6.ip, port)]) as second:
            assert second.bound == [Endpoint(LOOPBACK_6.ip, port)]
        async with open_sockets([Endpoint(IPv6Address("::"), port)]) as every:  # the IPv6 socket takes IPv6 only
            assert every.bound == [Endpoint(IPv6Address("::"), port)]


async def test_a_datagram_goes_out_by_the_socket_of_its_ip_version() -> None:
    async with open_sockets([LOOPBACK, LOOPBACK_6]) as ours, open_sockets([LOOPBACK, LOOPBACK_6]) as theirs:
        assert [each.ip.version for each in ours.bound] == [4, 6]
        await ours.send([Datagram(b"6", theirs.bound[1]), Datagram(b"4", theirs.bound[0])])
        assert await read(theirs, 4) == (b"4", ours.bound[0])
        assert await read(theirs, 6) == (b"6", ours.bound[1])


async def test_what_cannot_be_sent_is_counted_and_harms_nothing() -> None:
    async with open_sockets([LOOPBACK]) as ours, open_sockets([LOOPBACK]) as theirs:
        to = theirs.bound[0]
        await ours.send(
            [
                Datagram(b"no socket of its IP version", Endpoint(IPv6Address("::1"), 30303)),
                Datagram(b"nowhere", Endpoint(to.ip, 0)),
                Datagram(bytes(LARGEST_UDP + 1), to),  # EMSGSIZE
                Datagram(b"no broadcast", Endpoint(IPv4Address("255.255.255.255"), 30303)),  # EACCES
                Datagram(b"last", to),
            ]
        )
        assert ours.unsent == 4
        assert (await read(theirs))[0] == b"last"


async def test_a_port_where_nobody_listens_is_no_error() -> None:
    async with open_sockets([LOOPBACK]) as ours:
        async with open_sockets([LOOPBACK]) as gone:
            closed = gone.bound[0]
        await ours.send([Datagram(b"anybody?", closed)] * 3)
        await ours.send([Datagram(b"ourselves", ours.bound[0])])
        assert (await read(ours))[0] == b"ourselves"


async def test_an_address_in_use_is_named() -> None:
    async with open_sockets([LOOPBACK]) as first:
        with pytest.raises(ConfigError, match=f"cannot use UDP {first.bound[0]}: ") as raised:
            async with open_sockets([LOOPBACK_6, first.bound[0]]):
                pass
    assert "--listen" in (raised.value.hint or "")


async def test_all_sockets_are_closed_at_the_end_also_when_one_cannot_be_opened() -> None:
    async with open_sockets([LOOPBACK, LOOPBACK_6]) as sockets:
        opened = list(sockets.by_version.values())
        free = sockets.bound[1]
        with pytest.raises(ConfigError):
            async with open_sockets([LOOPBACK, free]):
                pass
    assert [each.fileno() for each in opened] == [-1, -1]
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as again:
        again.bind((str(free.ip), free.port))


def test_an_endpoint_of_a_socket_address_has_no_scope_and_no_mapped_address() -> None:
    assert endpoint_of(("10.0.0.1", 30303)) == Endpoint(IPv4Address("10.0.0.1"), 30303)
    assert endpoint_of(("fe80::1%eth0", 30303, 0, 2)) == Endpoint(IPv6Address("fe80::1"), 30303)
    assert endpoint_of(("::ffff:10.0.0.1", 30303, 0, 0)) == Endpoint(IPv4Address("10.0.0.1"), 30303)
