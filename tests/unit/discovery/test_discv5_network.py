"""Two discv5 nodes over a network that loses, doubles and reorders packets."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ethsync.discovery.discv5 import TalkAnswered
from ethsync.discovery.discv5_limits import Limits
from ethsync.discovery.node import Node
from ethsync.discovery.protocol import Found, RecordFetched, Unanswered
from ethsync.discovery.protocol import Pong as PongEvent
from tests.unit.discovery.discv5_bench import Party, Wires, ask_something, endpoint, node_number

GENEROUS = Limits(requests=1000.0, request_burst=1000.0)
ENDS: tuple[type[Any], ...] = (PongEvent, Found, RecordFetched, TalkAnswered, Unanswered)


def echo(node: Node, request: bytes) -> bytes:
    return request


def converse(seed: int, rounds: int, **options: Any) -> list[Any]:
    """Both sides ask at random times. Returns the events by which the requests ended, one for each."""
    rng = random.Random(seed)
    wires = Wires(rng=random.Random(seed), **options)
    parties = [
        wires.add(Party(number, endpoint(f"9.9.9.{number}"), talk={b"echo": echo}, limits=GENEROUS))
        for number in (1, 2)
    ]
    for party in parties:
        party.table.nodes = [node_number(number) for number in range(100, 140)]
    tokens: list[list[int]] = [[], []]
    for _ in range(rounds):
        side = rng.randrange(2)
        tokens[side].append(ask_something(rng, parties[side].discv5, parties[1 - side].node, wires.now))
        wires.run(rng.expovariate(4.0))
    wires.run(20.0)
    events = [[event for kind in ENDS for event in party.take_events(kind)] for party in parties]
    for side in range(2):
        assert sorted(event.token for event in events[side]) == tokens[side]
        assert parties[side].discv5.deadline == float("inf")
    return events[0] + events[1]


@pytest.mark.parametrize("seed", range(5))
def test_without_loss_everything_is_answered_however_packets_overtake_each_other(seed: int) -> None:
    events = converse(seed, 100, delay=(0.0, 0.1), twice=0.2)
    assert {type(event) for event in events} == {PongEvent, Found, RecordFetched, TalkAnswered}
    for event in events:
        if isinstance(event, Found):
            assert 0 < len(event.nodes) <= 16
        if isinstance(event, TalkAnswered):
            assert event.response == b"say"


@pytest.mark.parametrize("seed", range(5))
def test_with_loss_every_request_still_ends_and_most_are_answered(seed: int) -> None:
    events = converse(seed, 200, delay=(0.0, 0.1), twice=0.1, loss=0.1)
    assert 0 < sum(isinstance(event, Unanswered) for event in events) < 100
