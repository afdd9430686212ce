"""Addresses and protocols of the command line, and what is wrong with them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from ethsync.commands.finding import make_finding, parse_announce, parse_listen, parse_protocols
from ethsync.discovery.local_record import Announcement
from ethsync.discovery.node import Endpoint
from ethsync.errors import ConfigError
from ethsync.networks import load_network

V4, V6 = IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("192.0.2.1", Endpoint(V4, 30303)),
        ("192.0.2.1:5", Endpoint(V4, 5)),
        (":5", Endpoint(IPv4Address("0.0.0.0"), 5)),
        ("2001:db8::1", Endpoint(V6, 30303)),
        ("[2001:db8::1]:5", Endpoint(V6, 5)),
        ("[2001:db8::1]", Endpoint(V6, 30303)),
        ("127.0.0.1:0", Endpoint(IPv4Address("127.0.0.1"), 0)),
    ],
)
def test_addresses_to_listen_on(text: str, endpoint: Endpoint) -> None:
    assert parse_listen(text) == endpoint


@pytest.mark.parametrize(
    ("text", "announcement"),
    [
        ("192.0.2.1", Announcement(ip=V4, tcp=30303, udp=30303)),
        ("192.0.2.1:5", Announcement(ip=V4, tcp=5, udp=5)),
        ("192.0.2.1:5:6", Announcement(ip=V4, tcp=5, udp=6)),
        ("[2001:db8::1]:5:6", Announcement(ip6=V6, tcp6=5, udp6=6)),
        ("[2001:db8::1]", Announcement(ip6=V6, tcp6=30303, udp6=30303)),
    ],
)
def test_addresses_to_announce(text: str, announcement: Announcement) -> None:
    assert parse_announce(text) == announcement


@pytest.mark.parametrize("text", ["here", "192.0.2.1:x", "192.0.2.1:70000", "[::1", "1.2.3:4:5"])
def test_what_is_no_address_to_listen_on(text: str) -> None:
    with pytest.raises(ConfigError, match="not an address to listen on"):
        parse_listen(text)


@pytest.mark.parametrize("text", ["here", "192.0.2.1:0", "192.0.2.1:1:2:3", "192.0.2.1:x"])
def test_what_cannot_be_announced(text: str) -> None:
    with pytest.raises(ConfigError, match="not an address to announce"):
        parse_announce(text)


def test_protocols() -> None:
    assert parse_protocols("v5, dns") == {"v5", "dns"}
    assert parse_protocols("none") == frozenset()
    with pytest.raises(ConfigError, match="no discovery protocol 'v6'"):
        parse_protocols("v5,v6")


@pytest.mark.parametrize("name", ["mainnet", "sepolia", "hoodi", "holesky"])
def test_built_in_networks_know_where_to_begin(name: str, tmp_path: Path) -> None:
    network = load_network(name)
    finding = make_finding(
        network, tmp_path, protocols=frozenset({"v5", "v4", "dns"}), max_peers=7, listen=(), announce=None,
        more_boot_nodes=(),
    )  # fmt: skip
    options = finding.discovery
    assert (finding.max_peers, options.listen) == (7, [Endpoint(IPv4Address("0.0.0.0"), 30303)])
    assert len(options.boot_nodes) >= 17
    assert all(link.startswith("enrtree://") for link in options.dns)
    # We announce the newest fork that has passed.
    assert network.forks.fork_id(1 << 62, 1 << 40).hash != network.forks.fork_id(0, 0).hash


@pytest.mark.parametrize(("listen", "where"), [((), []), ((":5",), [Endpoint(IPv4Address("0.0.0.0"), 5)])])
def test_without_protocols_nobody_is_looked_for_and_nobody_let_in_unless_we_are_told_to_listen(
    listen: tuple[str, ...], where: list[Endpoint], tmp_path: Path
) -> None:
    finding = make_finding(
        load_network("mainnet"), tmp_path, protocols=frozenset(), max_peers=7, listen=listen, announce=None,
        more_boot_nodes=(),
    )  # fmt: skip
    assert not finding.discovery.protocols
    assert finding.discovery.listen == where


def test_trusted_peers_are_enodes_or_records(tmp_path: Path) -> None:
    enode = load_network("mainnet").boot_nodes[0]
    finding = make_finding(
        load_network("mainnet"), tmp_path, protocols=frozenset({"v5"}), max_peers=7, listen=(), announce=None,
        more_boot_nodes=(), trusted=[enode],
    )  # fmt: skip
    assert [str(each) for each in finding.trusted] == [enode]
