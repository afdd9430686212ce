"""The finder: several protocols on one port."""

from __future__ import annotations

import random

import pytest

from ethsync.discovery.finder import Finder
from ethsync.discovery.lane import Lane
from ethsync.discovery.node import Datagram
from ethsync.discovery.protocol import Met, Pong
from ethsync.discovery.table import Table
from ethsync.wire.enr import NodeRecord
from tests.unit.discovery.lane_bench import BOOT, KEY, LOCAL, SOMEWHERE, Script, others


@pytest.fixture
def pair() -> tuple[Finder, dict[str, Script]]:
    """A finder with two lanes; packets of "discv4" begin with 4, those of "discv5" with 5."""
    scripts = {"discv4": Script(b"4"), "discv5": Script(b"5")}
    lanes = {
        name: Lane(script, Table(LOCAL, random.Random(1)), BOOT, random.Random(1), needs_records=False)
        for name, script in scripts.items()
    }
    return Finder(lanes), scripts


def test_a_datagram_goes_to_the_first_protocol_that_knows_it(pair: tuple[Finder, dict[str, Script]]) -> None:
    finder, _ = pair
    for data in (b"4", b"5", b"5", b"", b"6"):
        finder.receive(data, SOMEWHERE, 0.0)
    assert finder.counts == {"discv4 received": 1, "discv5 received": 2, "of no protocol": 2}


def test_what_is_received_is_acted_on_at_once(pair: tuple[Finder, dict[str, Script]]) -> None:
    finder, scripts = pair
    finder.advance(0.0)
    (node,) = others(1)
    scripts["discv5"].happened.append(Met(node))
    finder.receive(b"5", SOMEWHERE, 0.0)
    assert finder.discovered() == [("discv5", node)]
    assert finder.discovered() == []


def test_both_are_asked_when_their_time_has_come(pair: tuple[Finder, dict[str, Script]]) -> None:
    finder, scripts = pair
    finder.advance(0.0)
    assert all(len(script.searches) == len(BOOT) for script in scripts.values())
    scripts["discv4"].deadline = 0.125
    assert finder.deadline == 0.125


def test_packets_of_both_are_sent_and_counted(pair: tuple[Finder, dict[str, Script]]) -> None:
    finder, scripts = pair
    scripts["discv4"].outgoing = [Datagram(b"4", SOMEWHERE)] * 2
    scripts["discv5"].outgoing = [Datagram(b"5", SOMEWHERE)]
    assert [packet.data for packet in finder.packets()] == [b"4", b"4", b"5"]
    assert finder.packets() == []
    assert finder.counts == {"discv4 sent": 2, "discv5 sent": 1, "sent": 3}


def test_both_learn_of_our_new_record_and_of_what_is_wanted(pair: tuple[Finder, dict[str, Script]]) -> None:
    finder, scripts = pair
    record = NodeRecord(b"", 2, KEY, LOCAL, ())
    finder.set_record(record)
    finder.want(False, 0.0)
    assert all(script.records == [record] for script in scripts.values())
    assert not any(lane.wanted for lane in finder.lanes.values())


def test_statistics_say_what_each_protocol_knows_and_did(pair: tuple[Finder, dict[str, Script]]) -> None:
    finder, scripts = pair
    finder.advance(0.0)
    token, (node, _) = next(iter(scripts["discv4"].searches.items()))
    scripts["discv4"].happened.append(Pong(token, node))
    finder.receive(b"4", SOMEWHERE, 0.0)
    statistics = finder.statistics()
    assert statistics["discv4 received"] == statistics["discv4 confirmed"] == 1
    assert statistics["discv4 known"] == statistics["discv5 known"] == len(BOOT)
    assert statistics["discv5 confirmed"] == 0
    assert statistics["discv5 queries"] == len(BOOT)
