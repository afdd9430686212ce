"""What addresses are good for; the cases of go-ethereum's p2p/netutil/net_test.go, and our own."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from ethsync.discovery.addresses import is_lan, is_loopback, is_public, is_relayable, is_usable, subnet


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "10.0.1.1",
        "10.22.0.3",
        "172.31.252.251",
        "192.168.1.4",
        "100.64.0.1",
        "100.127.255.254",
        "fe80::f4a1:8eff:fec5:9d9d",
        "fc00::4",
    ],
)
def test_addresses_nearby(text: str) -> None:
    ip = ip_address(text)
    assert is_lan(ip) or is_loopback(ip)
    assert not is_public(ip)
    assert is_usable(ip)


@pytest.mark.parametrize("text", ["192.0.2.1", "1.0.0.0", "172.32.0.1", "fec0::2233"])
def test_addresses_that_are_not_nearby(text: str) -> None:
    assert not is_lan(ip_address(text))
    assert not is_loopback(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",
        "0.2.0.8",
        "192.0.2.1",
        "192.0.2.44",
        "198.18.0.1",
        "255.255.255.255",
        "224.0.0.22",
        "::",
        "2001:db8:85a3:8d3:1319:8a2e:370:7348",
        "2002::1",
        "ff05::1:3",
    ],
)
def test_addresses_where_no_node_can_be(text: str) -> None:
    assert not is_usable(ip_address(text))
    assert not is_public(ip_address(text))


@pytest.mark.parametrize(
    "text", ["192.0.3.1", "1.0.0.0", "172.32.0.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "2001:4860::8888"]
)
def test_addresses_that_all_can_reach(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize(
    ("source", "named", "may"),
    [
        ("127.0.0.1", "0.0.0.0", False),
        ("192.168.0.1", "0.0.0.0", False),
        ("23.55.1.242", "0.0.0.0", False),
        ("127.0.0.1", "255.255.255.255", False),
        ("192.168.0.1", "255.255.255.255", False),
        ("23.55.1.242", "255.255.255.255", False),
        ("192.168.0.1", "127.0.2.19", False),
        ("23.55.1.242", "127.0.2.19", False),
        ("23.55.1.242", "192.168.0.1", False),
        ("127.0.0.1", "127.0.2.19", True),
        ("127.0.0.1", "192.168.0.1", True),
        ("127.0.0.1", "23.55.1.242", True),
        ("192.168.0.1", "192.168.0.1", True),
        ("192.168.0.1", "23.55.1.242", True),
        ("23.55.1.242", "23.55.1.242", True),
        ("23.55.1.242", "fe80::1", False),
        ("2001:4860::8888", "::1", False),
        ("2001:4860::8888", "fd00::1", False),
        ("2001:4860::8888", "2a00:1450::1", True),
    ],
)
def test_who_may_name_which_address(source: str, named: str, may: bool) -> None:
    assert is_relayable(ip_address(named), ip_address(source)) is may


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("1.2.3.4", "1.2.3.255", True),
        ("1.2.3.4", "1.2.4.4", False),
        ("2001:4860::1", "2001:4860::ffff:ffff:ffff:ffff", True),
        ("2001:4860::1", "2001:4860:0:1::1", False),
        ("0.0.1.0", "::1:0:0:0:0", False),
    ],
)
def test_which_addresses_share_a_subnet(left: str, right: str, same: bool) -> None:
    assert (subnet(ip_address(left)) == subnet(ip_address(right))) is same
