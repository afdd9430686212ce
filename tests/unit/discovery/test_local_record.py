"""Our own record: what it says, and a sequence number that rises when that changes and never goes back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import coincurve
import pytest
import rlp as oracle

from ethsync.discovery.identity import open_identity, save_identity
from ethsync.discovery.local_record import Announcement, LocalRecord
from ethsync.discovery.node import Endpoint
from ethsync.wire.enr import decode_record
from ethsync.wire.forkid import ForkId

KEY = coincurve.PrivateKey(b"\x17" * 32)
NOW = 1790000000.1234
BPO2 = ForkId(bytes.fromhex("07c9462e"), 0)
HOME = Announcement(IPv4Address("89.12.3.4"), tcp=30303, udp=30303, fork_id=BPO2)


def pairs_of(announcement: Announcement) -> dict[bytes, object]:
    """The record's own keys, decoded by the `rlp` package."""
    record = LocalRecord(KEY, announcement, None, NOW).record
    fields = oracle.decode(record.raw)[2:]
    return {
        name: value for name, value in zip(fields[::2], fields[1::2], strict=True) if name not in (b"id", b"secp256k1")
    }


class TestContent:
    def test_it_says_where_we_are_and_which_fork_we_follow(self) -> None:
        assert pairs_of(HOME) == {
            b"ip": bytes([89, 12, 3, 4]),
            b"tcp": (30303).to_bytes(2, "big"),
            b"udp": (30303).to_bytes(2, "big"),
            b"eth": [[bytes.fromhex("07c9462e"), b""]],
        }

    def test_a_server_of_snap_says_so_as_geth_does(self) -> None:
        assert pairs_of(Announcement(serves_snap=True)) == {b"snap": []}

    def test_a_port_that_both_ip_versions_share_stands_there_once(self) -> None:
        both = replace(HOME, ip6=IPv6Address("2a02:1::5"), tcp6=30303, udp6=30303, fork_id=None)

        assert set(pairs_of(both)) == {b"ip", b"ip6", b"tcp", b"udp"}
        assert set(pairs_of(replace(both, udp6=30304))) == {b"ip", b"ip6", b"tcp", b"udp", b"udp6"}

    def test_ports_of_ipv6_need_an_address_of_ipv6(self) -> None:
        assert set(pairs_of(replace(HOME, tcp6=1, udp6=2, fork_id=None))) == {b"ip", b"tcp", b"udp"}

    def test_an_address_of_ipv6_alone(self) -> None:
        alone = Announcement(ip6=IPv6Address("2a02:1::5"), tcp6=30303, udp6=30304)
        record = LocalRecord(KEY, alone, None, NOW).record

        assert (record.ip, record.ip6, record.tcp6, record.udp6) == (None, alone.ip6, 30303, 30304)

    def test_before_anything_is_known_it_is_a_valid_record_all_the_same(self) -> None:
        record = LocalRecord(KEY, Announcement(), None, NOW).record

        assert decode_record(record.raw) == record

    @pytest.mark.parametrize(
        ("endpoint", "expected"),
        [
            (Endpoint(IPv4Address("1.2.3.4"), 5), replace(HOME, ip=IPv4Address("1.2.3.4"), udp=5)),
            (Endpoint(IPv6Address("2a02::1"), 5), replace(HOME, ip6=IPv6Address("2a02::1"), udp6=5)),
        ],
    )
    def test_an_address_that_others_see_takes_its_place(self, endpoint: Endpoint, expected: Announcement) -> None:
        assert HOME.at(endpoint) == expected


class TestNumber:
    def test_the_first_is_the_time_in_milliseconds(self) -> None:
        """As geth's (p2p/enode/nodedb.go, localSeq)."""
        assert LocalRecord(KEY, HOME, None, NOW).record.seq == 1790000000123

    def test_a_change_makes_another_record_with_the_next_number(self) -> None:
        local = LocalRecord(KEY, HOME, None, NOW)
        before = local.record

        assert local.update(HOME.at(Endpoint(IPv4Address("1.2.3.4"), 5)))

        assert local.record.seq == before.seq + 1
        assert (local.record.ip, local.record.udp, local.record.tcp) == (IPv4Address("1.2.3.4"), 5, 30303)
        assert decode_record(local.record.raw) == local.record

    def test_the_fork_that_passes_is_a_change(self) -> None:
        local = LocalRecord(KEY, HOME, None, NOW)

        assert local.update(replace(HOME, fork_id=replace(BPO2, next=1800000000)))
        assert local.record.fork_id == ForkId(BPO2.hash, 1800000000)

    def test_the_same_again_changes_nothing(self) -> None:
        local = LocalRecord(KEY, HOME, None, NOW)
        before = local.record

        assert not local.update(HOME)
        assert not local.update(replace(HOME, tcp6=30303))  # which says no more without an address of IPv6
        assert local.record is before

    def test_a_restart_that_changes_nothing_keeps_the_record(self) -> None:
        last = LocalRecord(KEY, HOME, None, NOW).record

        assert LocalRecord(KEY, HOME, last, NOW + 1000).record is last

    def test_a_restart_that_changes_something_goes_on_from_it(self) -> None:
        last = LocalRecord(KEY, HOME, None, NOW).record
        clock_set_back = NOW - 1_000_000

        assert LocalRecord(KEY, Announcement(), last, clock_set_back).record.seq == last.seq + 1

    def test_over_restarts_it_rises_exactly_with_the_changes(self, tmp_path: Path) -> None:
        numbers: list[int] = []
        told: list[bytes] = []
        for start in range(6):
            identity = open_identity(tmp_path)
            local = LocalRecord(identity.key, replace(HOME, tcp=30303 + start // 2), identity.record, NOW - 10 * start)
            save_identity(tmp_path, local.record)
            for udp in (1, 1, 2):
                if local.update(replace(local.announcement, udp=udp)):
                    save_identity(tmp_path, local.record)
                numbers.append(local.record.seq)
                told.append(local.record.raw)

        assert numbers == sorted(numbers)
        assert len(set(numbers)) == len(set(told))

    def test_a_lost_memory_does_not_lead_back(self) -> None:
        """Unless the clock was set back, or the record changed more often than once per millisecond."""
        local = LocalRecord(KEY, HOME, None, NOW)
        for port in range(1, 1000):
            local.update(replace(HOME, udp=port))

        assert LocalRecord(KEY, HOME, None, NOW + 1).record.seq > local.record.seq
