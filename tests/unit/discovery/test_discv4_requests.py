"""What a discv4 node asks, when it does, and which answers it believes."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from ethsync.discovery import discv4_packets as wire
from ethsync.discovery.discv4 import EXPIRATION, MOST_TRIES
from ethsync.discovery.discv4_bonds import FETCH_INTERVAL
from ethsync.discovery.discv4_limits import Limits
from ethsync.discovery.discv4_packets import Contact
from ethsync.discovery.node import Endpoint, Node
from ethsync.discovery.protocol import AddressSeen, Found, Met, Pong, RecordFetched, Target, Unanswered
from ethsync.wire import keys
from ethsync.wire.enr import NodeRecord, sign_record
from tests.unit.discovery.discv4_bench import (
    EPOCH,
    OUR_ENDPOINT,
    OUR_KEY,
    TARGET,
    Bench,
    Remote,
    endpoint,
    key_number,
    node_number,
    record_at,
)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def remote(bench: Bench) -> Remote:
    return Remote(bench)


@pytest.fixture
def bonded(remote: Remote) -> Remote:
    """A remote that we may ask at once."""
    remote.bond()
    return remote


def search(bench: Bench, remote: Remote, target: Target = TARGET) -> int:
    return bench.discv4.find_nodes(remote.node, target, bench.now)


def answer_ping(bench: Bench, remote: Remote, **changes: Any) -> None:
    _, sent = bench.sent_one(wire.Ping)
    remote.pong(sent.hash, **changes)


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


# Neighbors.


def test_a_search_ends_with_the_sixteenth_node(bench: Bench, bonded: Remote) -> None:
    nodes = [node_number(number) for number in range(1, 17)]
    token = search(bench, bonded)
    bonded.name(nodes[:12])
    assert bench.discv4.events() == []
    bonded.name(nodes[12:])
    assert bench.discv4.events() == [Found(token, bonded.node, tuple(nodes))]


def test_a_search_takes_all_sixteen_nodes_from_one_packet(bench: Bench, bonded: Remote) -> None:
    nodes = [node_number(number) for number in range(1, 17)]
    search(bench, bonded)
    bonded.name(nodes)
    assert bench.events(Found)[0].nodes == tuple(nodes)


def test_a_search_with_fewer_nodes_ends_at_the_timeout_with_what_came(bench: Bench, bonded: Remote) -> None:
    token = search(bench, bonded)
    bonded.name([node_number(1)])
    bench.pass_time(0.49)
    assert bench.discv4.events() == []
    bench.pass_time(0.01)
    assert bench.discv4.events() == [Found(token, bonded.node, (node_number(1),))]


def test_a_search_takes_no_more_than_sixteen_nodes(bench: Bench, bonded: Remote) -> None:
    nodes = [node_number(number) for number in range(1, 20)]
    search(bench, bonded)
    bonded.name(nodes[:10])
    bonded.name(nodes[10:])
    assert bench.events(Found)[0].nodes == tuple(nodes[:16])


def test_an_answer_without_nodes_ends_a_search_at_once(bench: Bench, bonded: Remote) -> None:
    token = search(bench, bonded)
    bonded.name([])
    assert bench.discv4.events() == [Found(token, bonded.node, ())]


def test_a_search_without_answer_is_over_after_half_a_second(bench: Bench, bonded: Remote) -> None:
    token = search(bench, bonded)
    bench.pass_time(0.5)
    assert bench.discv4.events() == [Unanswered(token, bonded.node, "no answer")]


def test_a_repeated_answer_adds_nothing(bench: Bench, bonded: Remote) -> None:
    nodes = [node_number(number) for number in range(1, 17)]
    search(bench, bonded)
    for _ in range(3):
        bonded.name(nodes[:8] * 2)
    assert bench.discv4.events() == []
    bonded.name(nodes[8:])
    assert bench.events(Found)[0].nodes == tuple(nodes)


def test_of_two_addresses_of_one_node_the_first_counts(bench: Bench, bonded: Remote) -> None:
    search(bench, bonded)
    bonded.name([node_number(1), node_number(1, endpoint("9.9.9.9"))])
    bench.pass_time(0.5)
    assert bench.events(Found)[0].nodes == (node_number(1),)


def test_an_answer_counts_only_with_the_right_key_and_address(bench: Bench, bonded: Remote) -> None:
    search(bench, bonded)
    bonded.name([node_number(66)], source=endpoint("9.9.9.9"))
    bonded.name([node_number(66)], source=Endpoint(bonded.endpoint.ip, 1))
    bonded.name([node_number(66)], expiration=EPOCH - 1)
    Remote(bench, 101).name([node_number(66)], source=bonded.endpoint)
    bench.pass_time(0.5)
    assert len(bench.events(Unanswered)) == 1


def test_a_question_that_still_waits_for_the_proof_has_no_answer_yet(bench: Bench, remote: Remote) -> None:
    search(bench, remote)
    remote.name([node_number(66)])
    bench.pass_time(1.0)
    assert bench.events(Found) == []


def test_forged_answers_make_us_check_only_so_many_signatures(bench: Bench, bonded: Remote) -> None:
    stranger = Remote(bench, 101)
    search(bench, bonded)
    for _ in range(MOST_TRIES + 10):
        stranger.name([node_number(66)], source=bonded.endpoint)
    assert bench.discv4.counts["received Neighbors"] == MOST_TRIES


OUT_OF_REACH = [
    node_number(1, endpoint("127.0.0.1")),
    node_number(1, endpoint("10.1.2.3")),
    node_number(1, endpoint("fe80::1")),
    node_number(1, endpoint("0.0.0.0")),
    node_number(1, endpoint("239.0.0.1")),
    node_number(1, endpoint("203.0.113.7")),
    node_number(1, endpoint("9.9.9.9", 0)),
    node_number(1, endpoint("9.9.9.9", 53)),
    node_number(1, endpoint("9.9.9.9", 1024)),
    replace(node_number(1), public_key=b"\x01" * 64),  # not on the curve
    Node(b"", keys.identity(OUR_KEY.public_key), endpoint("9.9.9.9"), 0),  # ourselves
]


@pytest.mark.parametrize("node", OUT_OF_REACH, ids=lambda node: str(node.endpoint))
def test_a_node_that_we_should_not_contact_is_left_out(bench: Bench, bonded: Remote, node: Node) -> None:
    good = node_number(2, endpoint("9.9.9.10", 1025))
    search(bench, bonded)
    bonded.name([node, good])
    bench.pass_time(0.5)
    assert bench.events(Found)[0].nodes == (good,)


def test_a_node_of_our_own_network_may_name_others_of_it(bench: Bench) -> None:
    remote = Remote(bench, at=endpoint("192.168.1.9"))
    remote.bond()
    search(bench, remote)
    remote.name([node_number(1, endpoint("192.168.1.5"))])
    bench.pass_time(0.5)
    assert bench.events(Found)[0].nodes == (node_number(1, endpoint("192.168.1.5")),)


def test_searches_at_one_node_take_turns_for_their_answers_look_alike(bench: Bench, bonded: Remote) -> None:
    other = Target(b"\x66" * 64, keys.node_id(b"\x66" * 64))
    tokens = [search(bench, bonded), search(bench, bonded, other)]
    assert bench.sent_one(wire.FindNode)[0].target == TARGET.public_key
    bonded.name([node_number(number) for number in range(1, 17)])
    assert bench.sent_one(wire.FindNode)[0].target == other.public_key
    bonded.name([node_number(99)])
    bench.pass_time(0.5)
    assert [(found.token, len(found.nodes)) for found in bench.events(Found)] == [(tokens[0], 16), (tokens[1], 1)]


def test_searches_that_wait_for_their_turn_end_with_the_one_that_has_no_answer(bench: Bench, bonded: Remote) -> None:
    tokens = [search(bench, bonded) for _ in range(3)]
    bench.pass_time(0.5)
    assert [event.token for event in bench.events(Unanswered)] == tokens
    assert bench.discv4.deadline == float("inf")


# Records.


def respond(bench: Bench, remote: Remote, record: bytes) -> None:
    _, sent = bench.sent_one(wire.RecordRequest)
    remote.say(wire.RecordResponse(sent.hash, record))


def record_of(remote: Remote, seq: int = 3) -> NodeRecord:
    return record_at(remote.key, remote.endpoint, seq)


def test_a_record_is_fetched_and_belongs_to_the_node_from_then_on(bench: Bench, bonded: Remote) -> None:
    record = record_at(bonded.key, endpoint("9.8.7.6", 4444), 3)
    token = bench.discv4.fetch_record(bonded.node, 0.0)
    respond(bench, bonded, record.raw)
    assert bench.discv4.events() == [RecordFetched(token, replace(bonded.node, record=record, tcp_port=4444))]


def test_a_record_without_tcp_port_leaves_the_one_that_we_know(bench: Bench, bonded: Remote) -> None:
    record = sign_record(bonded.key, 3, {})
    token = bench.discv4.fetch_record(bonded.node, 0.0)
    respond(bench, bonded, record.raw)
    assert bonded.node.tcp_port
    assert bench.discv4.events() == [RecordFetched(token, replace(bonded.node, record=record))]


def test_the_newer_of_two_records_stays(bench: Bench, bonded: Remote) -> None:
    node = replace(bonded.node, record=record_of(bonded, 4))
    bench.discv4.fetch_record(node, 0.0)
    respond(bench, bonded, record_of(bonded, 3).raw)
    assert bench.events(RecordFetched)[0].node == node


def test_a_record_with_a_wrong_signature_is_no_answer(bench: Bench, bonded: Remote) -> None:
    raw = bytearray(record_of(bonded).raw)
    raw[20] ^= 1
    bench.discv4.fetch_record(bonded.node, 0.0)
    respond(bench, bonded, bytes(raw))
    (event,) = bench.events(Unanswered)
    assert "not valid" in event.why


def test_the_record_of_another_node_is_no_answer(bench: Bench, bonded: Remote) -> None:
    bench.discv4.fetch_record(bonded.node, 0.0)
    respond(bench, bonded, record_at(key_number(5), bonded.endpoint).raw)
    (event,) = bench.events(Unanswered)
    assert "another node" in event.why


def test_a_record_counts_only_with_the_right_hash_key_and_address(bench: Bench, bonded: Remote) -> None:
    bench.discv4.fetch_record(bonded.node, 0.0)
    request_hash = bench.sent_one(wire.RecordRequest)[1].hash
    raw = record_of(bonded).raw
    bonded.say(wire.RecordResponse(bytes(32), raw))
    bonded.say(wire.RecordResponse(request_hash, raw), source=endpoint("9.9.9.9"))
    Remote(bench, 101).say(wire.RecordResponse(request_hash, raw), source=bonded.endpoint)
    assert bench.discv4.events() == []
    bench.pass_time(0.5)
    assert len(bench.events(Unanswered)) == 1


def test_requests_of_one_second_are_the_same_packet_and_every_node_answers_its_own(bench: Bench) -> None:
    remotes = [Remote(bench, 101), Remote(bench, 102)]
    for remote in remotes:
        remote.bond()
    tokens = [bench.discv4.fetch_record(remote.node, 0.0) for remote in remotes]
    first, second = bench.sent()
    assert first.hash == second.hash
    for remote in reversed(remotes):
        remote.say(wire.RecordResponse(first.hash, record_of(remote).raw))
    fetched = {event.token: event.node.public_key for event in bench.events(RecordFetched)}
    assert fetched == dict(zip(tokens, [remote.node.public_key for remote in remotes], strict=True))


# Records that a pong announces.


def test_a_record_that_a_pong_announces_is_fetched(bench: Bench, bonded: Remote) -> None:
    known = replace(bonded.node, record=record_of(bonded, 3))
    bench.discv4.ping(known, 0.0)
    answer_ping(bench, bonded, enr_seq=4)
    bench.discv4.events()
    newer = record_of(bonded, 4)
    respond(bench, bonded, newer.raw)
    assert [event.node.record for event in bench.events(RecordFetched)] == [newer]


def test_a_record_that_we_have_is_not_fetched(bench: Bench, bonded: Remote) -> None:
    bench.discv4.ping(replace(bonded.node, record=record_of(bonded, 3)), 0.0)
    answer_ping(bench, bonded, enr_seq=3)
    assert bench.sent() == []


def test_the_record_of_a_node_that_was_met_is_fetched(bench: Bench, remote: Remote) -> None:
    remote.ping()
    remote.pong(bench.sent()[1].hash, enr_seq=1)
    assert bench.events(Met) == [Met(remote.node)]
    respond(bench, remote, record_of(remote).raw)
    assert len(bench.events(RecordFetched)) == 1


def test_a_record_that_was_fetched_is_not_fetched_again(bench: Bench, remote: Remote) -> None:
    remote.ping()
    remote.pong(bench.sent()[1].hash, enr_seq=3)
    respond(bench, remote, record_of(remote, 3).raw)
    bench.pass_time(FETCH_INTERVAL)
    bench.discv4.ping(remote.node, bench.now)
    answer_ping(bench, remote, enr_seq=3)
    assert bench.sent() == []


def test_a_record_that_does_not_come_is_asked_for_again_only_after_a_while_and_in_silence(
    bench: Bench, bonded: Remote
) -> None:
    bench.discv4.ping(bonded.node, 0.0)
    answer_ping(bench, bonded, enr_seq=4)
    bench.sent_one(wire.RecordRequest)
    bench.pass_time(0.5)
    assert bench.events(Unanswered) == []
    bonded.ping()
    bench.sent()
    bench.discv4.ping(bonded.node, bench.now)
    answer_ping(bench, bonded, enr_seq=4)
    assert bench.sent() == []
    bench.pass_time(FETCH_INTERVAL)
    bench.discv4.ping(bonded.node, bench.now)
    answer_ping(bench, bonded, enr_seq=4)
    bench.sent_one(wire.RecordRequest)


def test_a_record_that_is_being_fetched_is_not_asked_for_twice(bench: Bench, remote: Remote) -> None:
    bench.discv4.fetch_record(remote.node, 0.0)
    answer_ping(bench, remote, enr_seq=4)
    remote.ping()
    bench.sent_one(wire.Pong)
    bench.pass_time(0.05)
    bench.sent_one(wire.RecordRequest)


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
