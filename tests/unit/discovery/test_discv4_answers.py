"""What a discv4 node answers, and whom. The behaviours are those of go-ethereum's conformance tests (cmd/devp2p,
internal/v4test), and the rest of discv4.md that others can see."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from ethsync.discovery import discv4_packets as wire
from ethsync.discovery.discv4 import EXPIRATION
from ethsync.discovery.discv4_packets import Contact
from ethsync.discovery.node import Endpoint
from ethsync.discovery.protocol import Met
from ethsync.hashing import keccak256
from ethsync.wire import keys, rlp
from tests.unit.discovery.discv4_bench import (
    EPOCH,
    OUR_ENDPOINT,
    OUR_KEY,
    TARGET,
    Bench,
    Remote,
    endpoint,
    neighbor,
    node_number,
    record_at,
)

HOUR = 3600.0
NOWHERE = Contact(ip_address("192.0.2.0"), 0, 0)  # an address of documentation, as in go-ethereum's tests


def extended_ping(remote: Remote, sender: Contact) -> bytes:
    """A ping with two elements and some bytes more than we know (EIP-8); returns its hash."""
    fields: rlp.Encodable = [sender.ip.packed if sender.ip else b"", sender.udp, sender.tcp]
    body = b"\x01" + rlp.encode([4, fields, fields, remote.expiration, 42, bytes(range(9, 0, -1))]) + b"after"
    signed = remote.key.sign_recoverable(keccak256(body), hasher=None) + body
    packet = keccak256(signed) + signed
    assert remote.bench.discv4.receive(packet, remote.endpoint, remote.bench.now)
    return packet[:32]


def assert_pong_and_ping(bench: Bench, remote: Remote, ping_hash: bytes) -> None:
    pong, ping = bench.sent()
    assert pong.to == ping.to == remote.endpoint
    assert isinstance(pong.message, wire.Pong)
    assert pong.message.ping_hash == ping_hash
    assert pong.message.recipient[:2] == tuple(remote.endpoint)
    assert pong.message.expiration == bench.wall_clock() + EXPIRATION
    assert pong.message.enr_seq == bench.record.seq
    assert isinstance(ping.message, wire.Ping)
    assert ping.message.recipient == Contact.of(remote.endpoint)


# Pings.


def test_a_strangers_ping_is_answered_with_a_pong_and_a_ping(bench: Bench, remote: Remote) -> None:
    assert_pong_and_ping(bench, remote, remote.ping())


def test_a_pong_mirrors_the_tcp_port_that_the_ping_named(bench: Bench, remote: Remote) -> None:
    remote.ping(sender=Contact(ip_address("9.9.9.9"), 1, 4444))
    pong = bench.sent()[0].message
    assert isinstance(pong, wire.Pong)
    assert pong.recipient == Contact(remote.endpoint.ip, remote.endpoint.port, 4444)


@pytest.mark.parametrize("wrong", [{"sender": NOWHERE}, {"recipient": NOWHERE}], ids=["from", "to"])
def test_a_ping_is_answered_to_where_it_came_from_whatever_addresses_it_names(
    bench: Bench, remote: Remote, wrong: dict[str, Any]
) -> None:
    assert_pong_and_ping(bench, remote, remote.ping(**wrong))


@pytest.mark.parametrize("sender", [Contact(ip_address("9.0.0.100"), 30303, 0), NOWHERE, wire.UNKNOWN])
def test_a_ping_with_more_in_it_than_we_know_is_answered(bench: Bench, remote: Remote, sender: Contact) -> None:
    assert_pong_and_ping(bench, remote, extended_ping(remote, sender))


@pytest.mark.parametrize("expiration", [0, EPOCH - 1, 2**64 - EPOCH - 20], ids=["epoch", "a second ago", "negative"])
def test_an_expired_ping_is_not_answered(bench: Bench, remote: Remote, expiration: int) -> None:
    remote.ping(expiration=expiration)
    assert bench.sent() == []
    assert bench.discv4.counts == {"dropped expired": 1}


def test_a_ping_is_valid_until_its_expiration(bench: Bench, remote: Remote) -> None:
    remote.ping(expiration=EPOCH)
    assert len(bench.sent()) == 2


def test_a_packet_of_unknown_type_is_one_of_ours_and_not_answered(bench: Bench, remote: Remote) -> None:
    body = b"\x42" + rlp.encode([4, 1])
    signed = remote.key.sign_recoverable(keccak256(body), hasher=None) + body
    assert bench.discv4.receive(keccak256(signed) + signed, remote.endpoint, 0.0)
    assert bench.sent() == []


def test_a_datagram_of_another_protocol_is_not_one_of_ours(bench: Bench, remote: Remote) -> None:
    packet = wire.encode_packet(remote.key, wire.RecordRequest(remote.expiration))
    assert not bench.discv4.receive(packet[:-1], remote.endpoint, 0.0)
    assert not bench.discv4.receive(packet + b"\0", remote.endpoint, 0.0)
    assert not bench.discv4.counts


def test_a_proven_node_gets_no_second_ping_even_if_it_names_another_address(bench: Bench, remote: Remote) -> None:
    remote.bond()
    ping_hash = remote.ping(sender=NOWHERE)
    pong, _ = bench.sent_one(wire.Pong)
    assert pong.ping_hash == ping_hash


def test_while_a_ping_of_ours_waits_for_its_answer_there_is_no_other(bench: Bench, remote: Remote) -> None:
    remote.ping()
    remote.ping()
    assert [type(sent.message) for sent in bench.sent()] == [wire.Pong, wire.Ping, wire.Pong]


def test_a_node_that_pinged_us_is_met_when_it_has_answered_our_ping(bench: Bench, remote: Remote) -> None:
    remote.ping(sender=Contact(None, 0, 4444))
    assert bench.discv4.events() == []
    remote.pong(bench.sent()[1].hash)
    assert bench.events(Met) == [Met(replace(remote.node, tcp_port=4444))]


def test_a_proven_node_that_pings_us_is_met_again(bench: Bench, remote: Remote) -> None:
    remote.bond()
    remote.ping()
    assert bench.events(Met) == [Met(remote.node)]


def test_a_stranger_that_does_not_answer_our_ping_is_not_met(bench: Bench, remote: Remote) -> None:
    remote.ping()
    bench.pass_time(10.0)
    assert bench.discv4.events() == []


def test_a_late_pong_is_no_proof(bench: Bench, remote: Remote) -> None:
    remote.ping()
    ping_hash = bench.sent()[1].hash
    bench.pass_time(0.5)
    remote.pong(ping_hash)
    remote.find_node()
    assert bench.sent() == []


def test_our_own_packets_are_not_answered_when_they_come_back(bench: Bench, remote: Remote) -> None:
    remote.key = OUR_KEY
    remote.ping()
    assert bench.sent() == []


def test_nothing_is_sent_to_port_zero(bench: Bench, remote: Remote) -> None:
    remote.ping(source=Endpoint(remote.endpoint.ip, 0))
    assert bench.sent() == []


# Questions for nodes.


def test_a_question_of_a_stranger_is_not_answered(bench: Bench, remote: Remote) -> None:
    remote.find_node()
    assert bench.sent() == []


def test_a_ping_alone_proves_nothing(bench: Bench, remote: Remote) -> None:
    remote.ping()
    bench.sent()
    remote.find_node()
    assert bench.sent() == []


def test_a_proven_node_gets_the_nodes_that_are_nearest_to_the_hash_of_its_target(bench: Bench, remote: Remote) -> None:
    remote.bond()
    bench.table.nodes = [node_number(number) for number in range(1, 41)]
    remote.find_node()
    parts = bench.sent()
    named = [part.message.nodes for part in parts if isinstance(part.message, wire.Neighbors)]
    nearest = tuple(neighbor(node) for node in bench.table.closest(keys.node_id(TARGET.public_key), 16))
    assert named == [nearest[:12], nearest[12:]]
    assert {part.to for part in parts} == {remote.endpoint}


def test_who_knows_nobody_says_so(bench: Bench, remote: Remote) -> None:
    remote.bond()
    remote.find_node()
    neighbors, _ = bench.sent_one(wire.Neighbors)
    assert neighbors == wire.Neighbors((), EPOCH + EXPIRATION)


def test_nodes_of_our_own_network_are_not_named_to_strangers(bench: Bench, remote: Remote) -> None:
    remote.bond()
    public = node_number(5)
    bench.table.nodes = [public, node_number(6, endpoint("192.168.1.5")), node_number(7, endpoint("127.0.0.1"))]
    remote.find_node()
    neighbors, _ = bench.sent_one(wire.Neighbors)
    assert neighbors.nodes == (neighbor(public),)


def test_nodes_of_our_own_network_are_named_within_it(bench: Bench) -> None:
    remote = Remote(bench, at=endpoint("192.168.1.9"))
    remote.bond()
    bench.table.nodes = [node_number(6, endpoint("192.168.1.5"))]
    remote.find_node()
    neighbors, _ = bench.sent_one(wire.Neighbors)
    assert neighbors.nodes == (neighbor(bench.table.nodes[0]),)


def test_an_expired_question_is_not_answered(bench: Bench, remote: Remote) -> None:
    remote.bond()
    remote.find_node(expiration=EPOCH - 1)
    remote.find_node(expiration=2**64 - EPOCH - 20)
    assert bench.sent() == []


def test_nodes_that_nobody_asked_for_are_not_taken(bench: Bench, remote: Remote) -> None:
    remote.bond()
    remote.name([node_number(66)])
    assert bench.discv4.events() == []
    assert bench.discv4.counts["dropped unsolicited"] == 1


def test_an_answer_longer_than_the_question_takes_a_proof_with_the_hash_of_our_ping(
    bench: Bench, remote: Remote
) -> None:
    remote.ping()
    bench.sent()
    remote.pong(bytes(32))
    remote.find_node()
    assert bench.sent() == []


def test_the_hash_of_a_ping_to_another_node_proves_nothing(bench: Bench, remote: Remote) -> None:
    accomplice = Remote(bench, 101)
    accomplice.ping()
    ping_hash = bench.sent()[1].hash
    remote.ping()
    bench.sent()
    remote.pong(ping_hash)
    remote.pong(ping_hash, source=accomplice.endpoint)
    remote.find_node()
    remote.find_node(source=accomplice.endpoint)
    assert bench.sent() == []


def test_a_pong_from_another_address_proves_nothing(bench: Bench, remote: Remote) -> None:
    remote.ping()
    remote.pong(bench.sent()[1].hash, source=endpoint("9.9.9.9"))
    remote.find_node()
    remote.find_node(source=endpoint("9.9.9.9"))
    assert bench.sent() == []


def test_an_expired_pong_proves_nothing(bench: Bench, remote: Remote) -> None:
    remote.ping()
    remote.pong(bench.sent()[1].hash, expiration=EPOCH - 1)
    remote.find_node()
    assert bench.sent() == []


def test_a_proof_for_one_address_is_none_for_another(bench: Bench, remote: Remote) -> None:
    remote.bond()
    remote.find_node(source=endpoint("9.9.9.9"))
    assert bench.sent() == []


def test_a_proven_node_that_comes_from_another_port_is_pinged_and_then_answered(bench: Bench, remote: Remote) -> None:
    remote.bond()
    moved = Endpoint(remote.endpoint.ip, 50001)
    remote.find_node(source=moved)
    _, sent = bench.sent_one(wire.Ping)
    assert sent.to == moved
    remote.pong(sent.hash, source=moved)
    assert bench.events(Met) == [Met(replace(remote.node, endpoint=moved))]
    remote.find_node(source=moved)
    assert bench.sent_one(wire.Neighbors)[1].to == moved


def test_a_proof_holds_for_24_hours(bench: Bench, remote: Remote) -> None:
    remote.bond()
    bench.pass_time(24 * HOUR - 1)
    remote.find_node()
    assert len(bench.sent()) == 1
    bench.pass_time(1)
    remote.find_node()
    assert bench.sent() == []


def test_a_proof_is_renewed_with_a_ping_after_12_hours(bench: Bench, remote: Remote) -> None:
    remote.bond()
    bench.pass_time(12 * HOUR - 1)
    remote.ping()
    bench.sent_one(wire.Pong)
    bench.pass_time(1)
    assert_pong_and_ping(bench, remote, remote.ping())


# Records.


def test_a_proven_node_gets_our_record(bench: Bench, remote: Remote) -> None:
    remote.bond()
    request_hash = remote.say(wire.RecordRequest(remote.expiration))
    response, sent = bench.sent_one(wire.RecordResponse)
    assert response == wire.RecordResponse(request_hash, bench.record.raw)
    assert sent.to == remote.endpoint


def test_a_stranger_does_not_get_our_record(bench: Bench, remote: Remote) -> None:
    remote.say(wire.RecordRequest(remote.expiration))
    assert bench.sent() == []


def test_an_expired_request_for_our_record_is_not_answered(bench: Bench, remote: Remote) -> None:
    remote.bond()
    remote.say(wire.RecordRequest(EPOCH - 1))
    assert bench.sent() == []


def test_a_changed_record_is_announced_and_given_out(bench: Bench, remote: Remote) -> None:
    remote.bond()
    newer = record_at(OUR_KEY, OUR_ENDPOINT, seq=8)
    bench.discv4.set_record(newer)
    remote.ping()
    assert bench.sent_one(wire.Pong)[0].enr_seq == 8
    remote.say(wire.RecordRequest(remote.expiration))
    assert bench.sent_one(wire.RecordResponse)[0].record == newer.raw
    Remote(bench, 101).ping()
    ping = bench.sent()[1].message
    assert isinstance(ping, wire.Ping)
    assert ping.enr_seq == 8
