"""Nodes: from records and URLs to UDP endpoints, and distances between ids."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import coincurve
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethsync.discovery.node import Endpoint, distance, node_of_enode, node_of_record
from ethsync.wire import keys
from ethsync.wire.enode import Enode, parse_enode
from ethsync.wire.enr import NodeRecord, address_pairs, sign_record

KEY = coincurve.PrivateKey(bytes.fromhex("b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291"))
PUBLIC_KEY = keys.identity(KEY.public_key)
ID = st.binary(min_size=32, max_size=32)


def record_with(ip: str | None = None, ip6: str | None = None, **ports: int) -> NodeRecord:
    v4 = None if ip is None else IPv4Address(ip)
    v6 = None if ip6 is None else IPv6Address(ip6)
    return sign_record(KEY, 1, address_pairs(v4, v6, **ports))


class TestNodeOfRecord:
    def test_it_has_the_key_the_address_and_the_record_itself(self) -> None:
        record = record_with("99.22.33.1", udp=30303, tcp=30304)

        node = node_of_record(record)

        assert node is not None
        assert (node.public_key, node.node_id) == (PUBLIC_KEY, keys.node_id(PUBLIC_KEY))
        assert node.endpoint == Endpoint(IPv4Address("99.22.33.1"), 30303)
        assert node.tcp_port == 30304
        assert node.record is record

    @pytest.mark.parametrize(
        ("ip", "ip6", "expected"),
        # go-ethereum, p2p/enode/node_test.go, TestNodeEndpoints, with udp = 30304 and udp6 = 30306 throughout.
        [
            ("127.0.0.1", None, "127.0.0.1:30304"),
            ("0.0.0.0", None, "0.0.0.0:30304"),
            ("99.22.33.1", None, "99.22.33.1:30304"),
            (None, "2001::ff00:42:8329", "[2001:0:0:0:0:ff00:42:8329]:30306"),
            ("127.0.0.1", "2001::ff00:42:8329", "[2001:0:0:0:0:ff00:42:8329]:30306"),
            ("0.0.0.0", "::1", "[::1]:30306"),
            ("192.168.2.2", "2001::ff00:42:8329", "[2001:0:0:0:0:ff00:42:8329]:30306"),
            ("169.254.2.6", "2001::ff00:42:8329", "[2001:0:0:0:0:ff00:42:8329]:30306"),
            ("192.168.2.2", "fd00::abcd:1", "192.168.2.2:30304"),
            ("192.168.2.2", "fe80::1", "192.168.2.2:30304"),
        ],
    )
    def test_the_address_that_reaches_further_counts(self, ip: str | None, ip6: str | None, expected: str) -> None:
        node = node_of_record(record_with(ip, ip6, udp=30304, udp6=30306))

        host, _, port = expected.rpartition(":")
        assert node is not None
        assert node.endpoint == Endpoint(ip_address(host.strip("[]")), int(port))

    def test_of_two_that_reach_equally_far_the_preferred_one_counts(self) -> None:
        record = record_with("99.22.33.1", "2a00::1", udp=1, tcp=2, udp6=3, tcp6=4)

        v4, v6 = node_of_record(record), node_of_record(record, prefer_ip6=True)

        assert v4 is not None
        assert v6 is not None
        assert (v4.endpoint, v4.tcp_port) == (Endpoint(IPv4Address("99.22.33.1"), 1), 2)
        assert (v6.endpoint, v6.tcp_port) == (Endpoint(IPv6Address("2a00::1"), 3), 4)

    def test_an_address_without_a_discovery_port_does_not_count(self) -> None:
        node = node_of_record(record_with("99.22.33.1", "fd00::1", tcp=2, udp6=3))

        assert node is not None
        assert node.endpoint == Endpoint(IPv6Address("fd00::1"), 3)

    def test_ipv4_that_is_mapped_into_ipv6_is_ipv4_with_its_ports(self) -> None:
        """As in go-ethereum, p2p/enode/node.go, setIP6."""
        node = node_of_record(record_with(None, "::ffff:99.22.33.1", udp=1, tcp=2, udp6=3, tcp6=4))

        assert node is not None
        assert (node.endpoint, node.tcp_port) == (Endpoint(IPv4Address("99.22.33.1"), 1), 2)

    def test_ports_of_ipv4_hold_for_an_address_of_ipv6_alone(self) -> None:
        node = node_of_record(record_with(None, "2a00::1", udp=1, tcp=2))

        assert node is not None
        assert (node.endpoint, node.tcp_port) == (Endpoint(IPv6Address("2a00::1"), 1), 2)

    @pytest.mark.parametrize(
        "record",
        [
            record_with(),
            record_with(udp=9000, tcp=9000),
            record_with("99.22.33.1", tcp=30303),
            record_with("224.0.0.1", "ff02::1", udp=1),
        ],
        ids=["nothing", "ports alone", "no discovery port", "multicast"],
    )
    def test_a_record_that_gives_nowhere_to_send_to_is_no_node(self, record: NodeRecord) -> None:
        assert node_of_record(record) is None
        assert node_of_record(record, prefer_ip6=True) is None


class TestNodeOfEnode:
    @pytest.mark.parametrize(
        ("host", "ip"),
        [
            ("10.3.58.6", IPv4Address("10.3.58.6")),
            ("2001:db8::1", IPv6Address("2001:db8::1")),
            ("::ffff:10.3.58.6", IPv4Address("10.3.58.6")),
        ],
    )
    def test_its_address_and_both_ports(self, host: str, ip: IPv4Address | IPv6Address) -> None:
        node = node_of_enode(Enode(PUBLIC_KEY, host, 30303, 30301))

        assert node is not None
        assert (node.endpoint, node.tcp_port, node.record) == (Endpoint(ip, 30301), 30303, None)
        assert (node.public_key, node.node_id) == (PUBLIC_KEY, keys.node_id(PUBLIC_KEY))

    @pytest.mark.parametrize("host", ["node.example.org", "localhost", "10.3.58", "010.3.58.6"])
    def test_a_name_is_no_node(self, host: str) -> None:
        assert node_of_enode(Enode(PUBLIC_KEY, host, 30303, 30303)) is None

    def test_without_discovery_it_is_no_node(self) -> None:
        url = parse_enode(f"enode://{PUBLIC_KEY.hex()}@10.3.58.6:30303?discport=0")

        assert node_of_enode(url) is None


@pytest.mark.parametrize(
    ("ip", "port", "text"), [("1.2.3.4", 30303, "1.2.3.4:30303"), ("2001:db8::1", 1, "[2001:db8::1]:1")]
)
def test_an_endpoint_is_written_as_in_a_url(ip: str, port: int, text: str) -> None:
    assert str(Endpoint(ip_address(ip), port)) == text


class TestDistance:
    def test_it_is_0_to_oneself_and_256_across_the_first_bit(self) -> None:
        assert distance(bytes(32), bytes(32)) == 0
        assert distance(b"\xaa" * 31 + b"\xaa", b"\xaa" * 31 + b"\xab") == 1
        assert distance(bytes(32), b"\x80" + bytes(31)) == 256

    @given(ID, ID)
    def test_it_counts_the_bits_after_the_common_prefix(self, left: bytes, right: bytes) -> None:
        bits = [f"{int.from_bytes(each, 'big'):0256b}" for each in (left, right)]
        common = next((at for at, (one, other) in enumerate(zip(*bits, strict=True)) if one != other), 256)

        assert distance(left, right) == distance(right, left) == 256 - common
