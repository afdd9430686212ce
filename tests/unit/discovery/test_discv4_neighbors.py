"""Whom a discv4 node finds: which Neighbors it believes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ethsync.discovery import discv4_packets as wire
from ethsync.discovery.discv4 import MOST_TRIES
from ethsync.discovery.node import Endpoint, Node
from ethsync.discovery.protocol import Found, Target, Unanswered
from ethsync.wire import keys
from tests.unit.discovery.discv4_bench import (
    EPOCH,
    OUR_KEY,
    TARGET,
    Bench,
    Remote,
    endpoint,
    node_number,
    search,
)

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
