"""What floods and forgeries can make a discv4 node do: little."""

from __future__ import annotations

import pytest

from ethsync.discovery import discv4_packets as wire
from ethsync.discovery.discv4_limits import DEFAULT_LIMITS, Limits, origin
from ethsync.discovery.discv4_packets import UNKNOWN
from ethsync.discovery.node import Endpoint
from ethsync.discovery.protocol import Met
from ethsync.hashing import keccak256
from ethsync.wire import rlp
from tests.unit.discovery.discv4_bench import (
    TARGET,
    Bench,
    Remote,
    endpoint,
    key_number,
    node_number,
    record_at,
)

UDP_AND_IP = 28  # bytes in front of every datagram (RFC 768, RFC 791)
RFC_9000_FACTOR = 3  # section 8.1: bytes to an unvalidated address per byte from it


def test_rates_are_counted_by_what_one_sender_cannot_have_many_of() -> None:
    assert origin(endpoint("9.9.9.9", 1)) == origin(endpoint("9.9.9.9", 2))
    assert origin(endpoint("9.9.9.9")) != origin(endpoint("9.9.9.10"))
    assert origin(endpoint("2001:4860::1")) == origin(endpoint("2001:4860::ffff:1", 9))
    assert origin(endpoint("2001:4860::1")) != origin(endpoint("2001:4860:0:1::1"))
    assert origin(endpoint("127.0.0.1", 1)) != origin(endpoint("127.0.0.1", 2))
    assert origin(endpoint("::1", 1)) != origin(endpoint("::1", 2))


def test_a_flood_from_one_address_is_dropped_before_its_signatures_are_checked() -> None:
    bench = Bench(Limits(packets=10.0, packet_burst=20.0))
    flooder, other = Remote(bench, 100), Remote(bench, 101)
    for port in range(1, 101):
        flooder.find_node(source=Endpoint(flooder.endpoint.ip, port))
    assert bench.discv4.counts == {"received FindNode": 20, "dropped unproven": 20, "dropped too many packets": 80}
    other.find_node()
    assert bench.discv4.counts["received FindNode"] == 21
    bench.pass_time(1.0)
    for _ in range(100):
        flooder.find_node()
    assert bench.discv4.counts["received FindNode"] == 31


def test_a_flood_from_many_addresses_is_bounded_in_all_and_does_not_reach_whom_we_wait_for() -> None:
    bench = Bench(Limits(requests=50.0))
    ours, strangers = Remote(bench, 100), Remote(bench, 101)
    bench.discv4.find_nodes(ours.node, TARGET, bench.now)
    ours.pong(bench.sent_one(wire.Ping)[1].hash)
    for number in range(201, 401):
        strangers.find_node(source=node_number(number).endpoint)
    assert bench.discv4.counts["received FindNode"] == 50
    ours.ping()
    bench.sent_one(wire.Pong)
    bench.pass_time(0.05)
    bench.sent_one(wire.FindNode)


def test_a_ping_back_to_an_address_opens_no_way_around_the_bound() -> None:
    bench = Bench(Limits(requests=10.0))
    remote = Remote(bench)
    remote.ping()
    assert len(bench.sent()) == 2
    for _ in range(100):
        remote.find_node()
    assert bench.discv4.counts["received FindNode"] == 9


def test_answers_that_nobody_waits_for_cost_no_signature() -> None:
    bench = Bench()
    remote = Remote(bench)
    remote.pong(bytes(32))
    remote.name([node_number(1)])
    remote.say(wire.RecordResponse(bytes(32), record_at(remote.key, remote.endpoint).raw))
    assert bench.discv4.counts == {"dropped unsolicited": 3}


def test_answers_that_nobody_waits_for_are_not_even_read() -> None:
    bench = Bench()
    remote = Remote(bench)
    for kind in (wire.Pong.kind, wire.Neighbors.kind, wire.RecordResponse.kind):
        signed = (
            remote.key.sign_recoverable(bytes(32), hasher=None) + bytes((kind,)) + b"\xc1"
        )  # a list that is cut off
        assert bench.discv4.receive(keccak256(signed) + signed, remote.endpoint, 0.0)
    assert bench.discv4.counts == {"dropped unsolicited": 3}


def test_pings_from_one_address_are_answered_at_a_bounded_rate() -> None:
    bench = Bench(Limits(pongs=5.0, pong_burst=10.0))
    remote = Remote(bench)
    remote.bond()
    bench.pass_time(100.0)
    for _ in range(50):
        remote.ping()
    assert len(bench.sent()) == 10
    bench.pass_time(1.0)
    for _ in range(50):
        remote.ping()
    assert len(bench.sent()) == 5


def test_one_address_is_pinged_back_at_a_bounded_rate_however_many_keys_seem_to_be_there() -> None:
    bench = Bench()
    there = endpoint("9.9.9.9")
    for second in range(100):
        for number in range(5):
            Remote(bench, 1000 + 5 * second + number, there).ping()
        bench.pass_time(1.0)
    pings = sum(isinstance(sent.message, wire.Ping) for sent in bench.sent())
    assert pings <= DEFAULT_LIMITS.ping_back_burst + 100 * DEFAULT_LIMITS.ping_backs
    assert pings >= 20


def test_pings_back_are_bounded_in_all() -> None:
    bench = Bench(Limits(all_ping_backs=10.0))
    for number in range(1, 101):
        Remote(bench, number).ping()
    kinds = [type(sent.message) for sent in bench.sent()]
    assert kinds.count(wire.Pong) == 100
    assert kinds.count(wire.Ping) == 10


def shortest_ping(remote: Remote) -> bytes:
    body = b"\x01" + rlp.encode([4, [], [], remote.expiration])
    signed = remote.key.sign_recoverable(keccak256(body), hasher=None) + body
    return keccak256(signed) + signed


@pytest.mark.parametrize("there", ["9.9.9.9", "2001:4860::9"])
def test_an_address_that_is_not_proven_gets_less_than_three_times_what_seems_to_come_from_it(there: str) -> None:
    """Even for the shortest packet that is answered, and with a sequence number as long as one can be."""
    key = key_number(1)
    bench = Bench(record=record_at(key, endpoint("8.8.4.4"), seq=2**64 - 1))
    remote = Remote(bench, at=endpoint(there))
    packet = shortest_ping(remote)
    bench.discv4.receive(packet, remote.endpoint, 0.0)
    answers = [sent.size + UDP_AND_IP for sent in bench.sent()]
    assert len(answers) == 2
    assert sum(answers) < RFC_9000_FACTOR * (len(packet) + UDP_AND_IP)


def test_over_time_an_unproven_address_gets_at_most_a_pong_for_a_ping_and_not_much_longer() -> None:
    bench = Bench()
    remote = Remote(bench)
    received = 0
    for second in range(1, 301):
        packet = wire.encode_packet(remote.key, wire.Ping(UNKNOWN, UNKNOWN, remote.expiration + second))
        received += len(packet) + UDP_AND_IP
        bench.discv4.receive(packet, remote.endpoint, bench.now)
        bench.pass_time(1.0)
    sent = sum(sent.size + UDP_AND_IP for sent in bench.sent())
    assert sent < 1.5 * received


def test_what_nobody_takes_does_not_pile_up() -> None:
    bench = Bench(Limits(queued=100, pong_burst=1000.0, packet_burst=1000.0))
    remote = Remote(bench)
    remote.bond()
    for _ in range(300):
        remote.ping()
    assert len(bench.sent()) == 100
    assert len(bench.events(Met)) == 100


def test_records_are_fetched_of_our_own_accord_at_a_bounded_rate() -> None:
    bench = Bench(Limits(record_fetches=5.0))
    for number in range(1, 21):
        remote = Remote(bench, number)
        remote.ping()
        remote.pong(bench.sent()[1].hash, enr_seq=1)
    assert len(bench.discv4.packets()) <= 5
    assert bench.discv4.counts["sent RecordRequest"] == 5
