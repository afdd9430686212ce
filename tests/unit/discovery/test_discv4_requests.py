"""What a discv4 node asks, and when: pings, endpoint proofs, and that every request ends."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from ethsync.discovery import discv4_packets as wire
from ethsync.discovery.discv4 import EXPIRATION
from ethsync.discovery.discv4_limits import Limits
from ethsync.discovery.discv4_packets import Contact
from ethsync.discovery.node import Endpoint
from ethsync.discovery.protocol import AddressSeen, Found, Pong, Unanswered
from tests.unit.discovery.discv4_bench import (
    EPOCH,
    OUR_ENDPOINT,
    OUR_KEY,
    TARGET,
    Bench,
    Remote,
    answer_ping,
    endpoint,
    node_number,
    record_at,
    record_of,
    respond,
    search,
)

# Pings.


def test_a_ping_tells_who_and_where_we_are_and_is_valid_for_20_seconds(bench: Bench, remote: Remote) -> None:
    bench.discv4.ping(remote.node, 0.0)
    ping, sent = bench.sent_one(wire.Ping)
    ours = Contact(OUR_ENDPOINT.ip, OUR_ENDPOINT.port, bench.record.tcp)
    assert ping == wire.Ping(ours, Contact.of(remote.endpoint), EPOCH + EXPIRATION, bench.record.seq)
    assert sent.to == remote.endpoint


def test_a_ping_names_the_address_at_which_that_very_node_sees_us(bench: Bench, remote: Remote) -> None:
    bench.discv4.ping(remote.node, 0.0)
    answer_ping(bench, remote, recipient=Contact(ip_address("8.8.9.9"), 1234, 0))
    bench.discv4.ping(remote.node, 0.0)
    assert bench.sent_one(wire.Ping)[0].sender == Contact(ip_address("8.8.9.9"), 1234, bench.record.tcp)
    bench.discv4.ping(node_number(101), 0.0)
    assert bench.sent_one(wire.Ping)[0].sender.ip == OUR_ENDPOINT.ip


def test_over_ipv6_a_ping_names_our_ipv6_address_or_none(bench: Bench) -> None:
    there = node_number(5, endpoint("2001:4860::5"))
    bench.discv4.ping(there, 0.0)
    assert bench.sent_one(wire.Ping)[0].sender.ip == ip_address("0.0.0.0")
    ours = endpoint("2001:4860::1", 30304)
    bench.discv4.set_record(record_at(OUR_KEY, ours))
    bench.discv4.ping(there, 0.0)
    assert bench.sent_one(wire.Ping)[0].sender == Contact(ours.ip, 30304, 30304)


def test_a_pong_ends_a_ping_and_tells_how_the_node_sees_us(bench: Bench, remote: Remote) -> None:
    token = bench.discv4.ping(remote.node, 0.0)
    answer_ping(bench, remote, recipient=Contact(ip_address("8.8.9.9"), 1234, 0))
    seen = AddressSeen(remote.node.node_id, endpoint("8.8.9.9", 1234), remote.endpoint)
    assert bench.discv4.events() == [seen, Pong(token, remote.node)]
    bench.pass_time(10.0)
    assert bench.discv4.events() == []


@pytest.mark.parametrize(
    "nonsense",
    [
        wire.UNKNOWN,
        Contact(ip_address("8.8.9.9"), 0, 0),
        Contact(ip_address("0.0.0.0"), 30303, 0),
        Contact(ip_address("127.0.0.1"), 30303, 0),
        Contact(ip_address("192.168.1.2"), 30303, 0),
        Contact(ip_address("224.0.0.1"), 30303, 0),
        Contact(ip_address("2001:4860::1"), 30303, 0),
    ],
    ids=str,
)
def test_a_pong_counts_although_it_says_nonsense_about_our_address(
    bench: Bench, remote: Remote, nonsense: Contact
) -> None:
    token = bench.discv4.ping(remote.node, 0.0)
    answer_ping(bench, remote, recipient=nonsense)
    assert bench.discv4.events() == [Pong(token, remote.node)]


def test_a_node_of_our_own_network_may_see_us_at_an_address_of_it(bench: Bench) -> None:
    remote = Remote(bench, at=endpoint("192.168.1.9"))
    bench.discv4.ping(remote.node, 0.0)
    answer_ping(bench, remote, recipient=Contact(ip_address("192.168.1.2"), 30303, 0))
    assert [seen.endpoint for seen in bench.events(AddressSeen)] == [endpoint("192.168.1.2")]


def test_a_ping_without_answer_is_over_after_half_a_second(bench: Bench, remote: Remote) -> None:
    token = bench.discv4.ping(remote.node, 0.0)
    assert bench.discv4.deadline == 0.5
    bench.pass_time(0.49)
    assert bench.discv4.events() == []
    bench.pass_time(0.01)
    assert bench.discv4.events() == [Unanswered(token, remote.node, "no answer")]
    assert bench.discv4.deadline == float("inf")


def test_a_pong_counts_only_with_the_right_hash_key_and_address(bench: Bench, remote: Remote) -> None:
    bench.discv4.ping(remote.node, 0.0)
    ping_hash = bench.sent_one(wire.Ping)[1].hash
    remote.pong(bytes(32))
    remote.pong(ping_hash, source=endpoint("9.9.9.9"))
    remote.pong(ping_hash, source=Endpoint(remote.endpoint.ip, 1))
    remote.pong(ping_hash, expiration=EPOCH - 1)
    Remote(bench, 101).pong(ping_hash, source=remote.endpoint)
    assert bench.discv4.events() == []
    remote.pong(ping_hash)
    assert len(bench.events(Pong)) == 1


def test_a_pong_counts_once(bench: Bench, remote: Remote) -> None:
    bench.discv4.ping(remote.node, 0.0)
    ping_hash = bench.sent_one(wire.Ping)[1].hash
    remote.pong(ping_hash)
    remote.pong(ping_hash)
    assert len(bench.events(Pong)) == 1


def test_two_pings_of_one_second_are_the_same_packet_and_one_pong_ends_both(bench: Bench, remote: Remote) -> None:
    tokens = [bench.discv4.ping(remote.node, 0.0), bench.discv4.ping(remote.node, 0.0)]
    first, second = bench.sent()
    assert first.hash == second.hash
    remote.pong(first.hash)
    assert [pong.token for pong in bench.events(Pong)] == tokens


# Endpoint proofs before questions.


def test_a_node_that_pinged_us_is_asked_at_once(bench: Bench, bonded: Remote) -> None:
    search(bench, bonded)
    question, sent = bench.sent_one(wire.FindNode)
    assert question == wire.FindNode(TARGET.public_key, EPOCH + EXPIRATION)
    assert sent.to == bonded.endpoint


def test_a_stranger_is_pinged_and_asked_soon_after_it_pinged_us_too(bench: Bench, remote: Remote) -> None:
    token = search(bench, remote)
    answer_ping(bench, remote)
    assert bench.sent() == []
    bench.pass_time(0.1)
    remote.ping()
    bench.sent_one(wire.Pong)
    bench.pass_time(0.04)
    assert bench.sent() == []
    bench.pass_time(0.01)
    bench.sent_one(wire.FindNode)
    remote.name([])
    assert bench.events(Found) == [Found(token, remote.node, ())]


def test_its_ping_may_come_before_its_pong(bench: Bench, remote: Remote) -> None:
    search(bench, remote)
    ping_hash = bench.sent_one(wire.Ping)[1].hash
    remote.ping()
    remote.pong(ping_hash)
    bench.sent_one(wire.Pong)
    bench.pass_time(0.05)
    bench.sent_one(wire.FindNode)


def test_its_ping_is_enough_if_its_pong_was_lost(bench: Bench, remote: Remote) -> None:
    search(bench, remote)
    bench.sent_one(wire.Ping)
    remote.ping()
    bench.sent_one(wire.Pong)
    bench.pass_time(0.05)
    bench.sent_one(wire.FindNode)


def test_a_node_cannot_put_the_question_off_by_pinging_again_and_again(bench: Bench, remote: Remote) -> None:
    search(bench, remote)
    answer_ping(bench, remote)
    for _ in range(2):
        remote.ping()
        bench.sent_one(wire.Pong)
        bench.pass_time(0.04)
    bench.sent_one(wire.FindNode)


def test_a_node_that_does_not_ping_us_is_asked_after_half_a_second(bench: Bench, remote: Remote) -> None:
    search(bench, remote)
    answer_ping(bench, remote)
    bench.pass_time(0.49)
    assert bench.sent() == []
    bench.pass_time(0.01)
    bench.sent_one(wire.FindNode)


def test_a_node_that_does_not_answer_our_ping_is_not_asked(bench: Bench, remote: Remote) -> None:
    token = search(bench, remote)
    bench.sent_one(wire.Ping)
    bench.pass_time(5.0)
    assert bench.sent() == []
    assert bench.discv4.events() == [Unanswered(token, remote.node, "no answer to our ping")]


def test_several_questions_wait_for_one_ping(bench: Bench, remote: Remote) -> None:
    search(bench, remote)
    bench.discv4.fetch_record(remote.node, 0.0)
    answer_ping(bench, remote)
    remote.ping()
    bench.sent_one(wire.Pong)
    bench.pass_time(0.05)
    assert [type(sent.message) for sent in bench.sent()] == [wire.FindNode, wire.RecordRequest]


def test_after_a_ping_of_the_owner_no_other_is_sent_before_the_question(bench: Bench, remote: Remote) -> None:
    bench.discv4.ping(remote.node, 0.0)
    answer_ping(bench, remote)
    search(bench, remote)
    assert bench.sent() == []
    bench.pass_time(0.5)
    bench.sent_one(wire.FindNode)


@pytest.mark.parametrize("kind", ["find", "record"])
def test_a_node_that_answered_a_question_is_asked_the_next_one_at_once(bench: Bench, remote: Remote, kind: str) -> None:
    if kind == "find":
        search(bench, remote)
    else:
        bench.discv4.fetch_record(remote.node, 0.0)
    answer_ping(bench, remote)
    bench.pass_time(0.5)
    if kind == "find":
        bench.sent_one(wire.FindNode)
        remote.name([])
    else:
        respond(bench, remote, record_of(remote).raw)
    bench.pass_time(60.0)
    search(bench, remote)
    bench.sent_one(wire.FindNode)


def test_after_12_hours_without_a_ping_of_it_a_node_is_pinged_again_before_it_is_asked(
    bench: Bench, bonded: Remote
) -> None:
    bench.pass_time(12 * 3600.0 - 1)
    search(bench, bonded)
    bench.sent_one(wire.FindNode)
    bonded.name([])
    bench.pass_time(12 * 3600.0)
    search(bench, bonded)
    bench.sent_one(wire.Ping)


@pytest.mark.parametrize("kind", ["find", "record"])
def test_a_node_that_leaves_a_question_unanswered_is_pinged_before_the_next_one(
    bench: Bench, bonded: Remote, kind: str
) -> None:
    if kind == "find":
        search(bench, bonded)
    else:
        bench.discv4.fetch_record(bonded.node, 0.0)
    assert len(bench.sent()) == 1
    bench.pass_time(0.5)
    assert [event.why for event in bench.events(Unanswered)] == ["no answer"]
    search(bench, bonded)
    bench.sent_one(wire.Ping)


# Every request ends with one event.


def test_a_node_without_discovery_port_is_not_asked(bench: Bench) -> None:
    node = node_number(1, endpoint("9.9.9.9", 0))
    token = bench.discv4.ping(node, 0.0)
    assert bench.discv4.events() == [Unanswered(token, node, "it has no discovery port")]
    assert bench.sent() == []


def test_what_is_too_much_for_one_endpoint_is_refused_at_once() -> None:
    bench = Bench(Limits(calls_per_endpoint=3))
    at = endpoint("9.9.9.9")
    tokens = [bench.discv4.ping(node_number(number, at), 0.0) for number in range(1, 6)]
    assert [event.token for event in bench.events(Unanswered)] == tokens[3:]
    bench.discv4.ping(node_number(6), 0.0)
    assert bench.events(Unanswered) == []


def test_what_is_too_much_in_all_is_refused_at_once() -> None:
    bench = Bench(Limits(calls=10))
    tokens = [bench.discv4.ping(node_number(number), 0.0) for number in range(1, 13)]
    assert [event.token for event in bench.events(Unanswered)] == tokens[10:]
    assert len(bench.discv4.calls) == 10
    bench.pass_time(0.5)
    assert [event.token for event in bench.events(Unanswered)] == tokens[:10]
    assert len(bench.discv4.calls) == 0
