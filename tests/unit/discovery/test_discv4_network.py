"""Discv4 nodes that talk to each other, over lines as bad as the internet's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ethsync.discovery.discv4 import Discv4
from ethsync.discovery.node import Node
from ethsync.discovery.protocol import AddressSeen, Found, Met, Pong, RecordFetched, Unanswered
from tests.unit.discovery.discv4_bench import TARGET, Network, Table, node_number

ASK: list[Callable[[Discv4, Node, float], int]] = [
    Discv4.ping,
    lambda discv4, node, now: discv4.find_nodes(node, TARGET, now),
    Discv4.fetch_record,
]
OTHERS = [node_number(number) for number in range(200, 240)]


def test_strangers_bond_and_ask_each_other() -> None:
    network = Network(seed=1)
    alice, bob = network.add(1), network.add(2, Table(OTHERS))
    token = network.at(alice).find_nodes(bob, TARGET, 0.0)
    network.run(0.2)
    events = network.events[alice.endpoint]
    assert AddressSeen(bob.node_id, alice.endpoint, bob.endpoint) in events
    (found,) = (event for event in events if isinstance(event, Found))
    assert found.token == token
    assert set(found.nodes) == set(Table(OTHERS).closest(TARGET.node_id, 16))
    met = [event.node for event in network.events[bob.endpoint] if isinstance(event, Met)]
    assert {node.node_id for node in met} == {alice.node_id}


def test_nodes_learn_each_others_records_by_meeting() -> None:
    network = Network(seed=1)
    alice, bob = network.add(1, seq=5), network.add(2, seq=6)
    network.at(alice).ping(bob, 0.0)
    network.run(1.0)
    for here, there, seq in ((alice, bob, 6), (bob, alice, 5)):
        (node,) = (event.node for event in network.events[here.endpoint] if isinstance(event, RecordFetched))
        assert node.record is not None
        assert (node.node_id, node.record.seq) == (there.node_id, seq)


def test_both_may_ask_each_other_at_the_same_moment() -> None:
    network = Network(seed=1)
    alice, bob = network.add(1, Table(OTHERS)), network.add(2, Table(OTHERS))
    network.at(alice).find_nodes(bob, TARGET, 0.0)
    network.at(bob).find_nodes(alice, TARGET, 0.0)
    network.run(0.2)
    for node in (alice, bob):
        assert [len(event.nodes) for event in network.events[node.endpoint] if isinstance(event, Found)] == [16]


def test_quiet_nodes_send_nothing() -> None:
    network = Network(seed=1)
    alice, bob = network.add(1), network.add(2)
    network.at(alice).find_nodes(bob, TARGET, 0.0)
    network.run(5.0)
    carried = network.carried
    network.run(1000.0)
    assert network.carried == carried
    assert network.at(alice).deadline == network.at(bob).deadline == float("inf")


def test_a_node_that_restarted_and_has_forgotten_us_is_found_again_at_the_second_try() -> None:
    network = Network(seed=1)
    alice, bob = network.add(1), network.add(2, Table(OTHERS))
    network.at(alice).find_nodes(bob, TARGET, 0.0)
    network.run(5.0)
    network.add(2, Table(OTHERS))
    network.events[alice.endpoint].clear()
    for _ in range(2):
        network.at(alice).find_nodes(bob, TARGET, network.now)
        network.run(5.0)
    kinds = [type(event) for event in network.events[alice.endpoint] if isinstance(event, (Found, Unanswered))]
    assert kinds == [Unanswered, Found]


def tokens_and_answers(network: Network, node: Node) -> list[int]:
    ends = (Pong, Found, RecordFetched, Unanswered)
    return [event.token for event in network.events[node.endpoint] if isinstance(event, ends)]


@pytest.mark.parametrize("seed", range(20))
def test_over_lines_that_lose_double_and_reorder_every_request_ends_once_and_most_with_an_answer(seed: int) -> None:
    network = Network(seed, delay=(0.01, 0.15), loss=0.1, doubling=0.1)
    nodes = [network.add(number, Table(OTHERS)) for number in range(1, 9)]
    expected: dict[bytes, list[int]] = {node.node_id: [] for node in nodes}
    for turn in range(12):
        for index, node in enumerate(nodes):
            other = nodes[(index + 1 + turn % 7) % len(nodes)]
            discv4 = network.at(node)
            ask = (discv4.ping, lambda to, now, at=discv4: at.find_nodes(to, TARGET, now), discv4.fetch_record)[
                turn % 3
            ]
            expected[node.node_id].append(ask(other, network.now))
        network.run(2.0)
    events = [event for node in nodes for event in network.events[node.endpoint]]
    for node in nodes:
        ended = tokens_and_answers(network, node)
        assert len(ended) == len(set(ended))
        assert set(expected[node.node_id]) <= set(ended)
        assert len(network.at(node).calls) == 0
    answered = sum(isinstance(event, (Pong, Found, RecordFetched)) for event in events)
    assert answered > 2 * sum(isinstance(event, Unanswered) for event in events)
    known = {node.node_id for node in OTHERS}
    assert {each.node_id for event in events if isinstance(event, Found) for each in event.nodes} <= known


def test_the_same_seed_gives_the_same_course() -> None:
    def course() -> tuple[int, list[type]]:
        network = Network(7, delay=(0.01, 0.3), loss=0.3, doubling=0.3)
        alice, bob = network.add(1), network.add(2, Table(OTHERS))
        for _ in range(10):
            network.at(alice).find_nodes(bob, TARGET, network.now)
            network.run(1.0)
        return network.carried, [type(event) for event in network.events[alice.endpoint]]

    assert course() == course()
