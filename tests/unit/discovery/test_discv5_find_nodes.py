"""Which nodes discv5 asks for, and which of those in the answers it takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ethsync.discovery.discv5_answers import MOST_PARTS, RESULT_LIMIT
from ethsync.discovery.discv5_calls import REQUEST_TIMEOUT
from ethsync.discovery.discv5_messages import FindNode, Nodes, Ping
from ethsync.discovery.discv5_nodes import lookup_distances
from ethsync.discovery.node import Endpoint, Node, distance
from ethsync.discovery.protocol import Found, RecordFetched, Target, Unanswered
from tests.unit.discovery.discv5_bench import (
    TARGET,
    Party,
    Stranger,
    acquainted,
    asked,
    endpoint,
    key_number,
    node_number,
    record_at,
)


class TestFindNodes:
    @staticmethod
    def near(stranger: Stranger, count: int) -> list[Node]:
        """Nodes at the farthest distance from the stranger: half of all are."""
        nodes = (node_number(number) for number in range(100, 1000))
        return [node for node in nodes if distance(node.node_id, stranger.record.node_id) == 256][:count]

    @staticmethod
    def ask(ours: Party, stranger: Stranger, *distances: int) -> tuple[int, bytes]:
        """Ask for a target so that the first distance is the wanted one."""
        bits = int.from_bytes(stranger.record.node_id, "big") ^ (1 << (distances[0] - 1))
        token = ours.discv5.find_nodes(stranger.node, Target(b"", bits.to_bytes(32, "big")), 0.0)
        message = asked(stranger)
        assert isinstance(message, FindNode)
        assert message.distances[: len(distances)] == distances
        return token, message.request_id

    @pytest.mark.parametrize(
        ("to_target", "asked_for"),
        [(256, (256, 255, 254)), (255, (255, 256, 254)), (100, (100, 101, 99)), (1, (1, 2, 3)), (0, (1, 2, 3))],
    )
    def test_the_distances_next_to_the_target_are_asked_for(self, to_target: int, asked_for: tuple[int, ...]) -> None:
        assert lookup_distances(to_target) == asked_for

    def test_the_distance_is_the_targets_from_the_asked_node(self) -> None:
        ours, stranger = acquainted()
        ours.discv5.find_nodes(stranger.node, TARGET, 0.0)
        message = asked(stranger)
        assert isinstance(message, FindNode)
        assert message.distances == lookup_distances(distance(stranger.record.node_id, TARGET.node_id))

    def test_nodes_in_several_packets_are_found_when_the_last_has_come(self) -> None:
        ours, stranger = acquainted()
        token, request_id = self.ask(ours, stranger, 256)
        nodes = self.near(stranger, 6)
        for part in (nodes[:3], nodes[3:5]):
            stranger.say(Nodes(request_id, 3, tuple(node.record.raw for node in part if node.record)))
            assert ours.discv5.events() == []
        stranger.say(Nodes(request_id, 3, tuple(node.record.raw for node in nodes[5:] if node.record)))
        assert ours.discv5.events() == [Found(token, stranger.node, tuple(nodes))]

    def test_an_empty_answer_is_an_answer(self) -> None:
        ours, stranger = acquainted()
        token, request_id = self.ask(ours, stranger, 256)
        stranger.say(Nodes(request_id, 1, ()))
        assert ours.discv5.events() == [Found(token, stranger.node, ())]

    def test_what_has_come_until_the_timeout_is_used(self) -> None:
        ours, stranger = acquainted()
        token, request_id = self.ask(ours, stranger, 256)
        (node,) = self.near(stranger, 1)
        assert node.record is not None
        stranger.say(Nodes(request_id, 3, (node.record.raw,)))
        ours.discv5.advance(REQUEST_TIMEOUT)
        assert ours.discv5.events() == [Found(token, stranger.node, (node,))]

    def test_no_packet_at_all_is_no_answer(self) -> None:
        ours, stranger = acquainted()
        token, _ = self.ask(ours, stranger, 256)
        ours.discv5.advance(REQUEST_TIMEOUT)
        assert ours.discv5.events() == [Unanswered(token, stranger.node, "no answer")]

    def test_a_packet_that_the_network_delivers_twice_counts_once(self) -> None:
        ours, stranger = acquainted()
        token, request_id = self.ask(ours, stranger, 256)
        nodes = self.near(stranger, 12)
        first, second = (
            Nodes(request_id, 2, tuple(node.record.raw for node in part if node.record))
            for part in (nodes[:6], nodes[6:])
        )
        data = stranger.sealed(first.encode())
        for _ in range(3):
            stranger.put(data)
            assert ours.discv5.events() == []
        stranger.say(second)
        assert ours.discv5.events() == [Found(token, stranger.node, tuple(nodes))]

    def test_nodes_that_nobody_asked_for_mean_nothing(self) -> None:
        ours, stranger = acquainted()
        token, request_id = self.ask(ours, stranger, 256)
        (node,) = self.near(stranger, 1)
        assert node.record is not None
        stranger.say(Nodes(b"another", 1, (node.record.raw,)))
        other = Stranger(ours, number=3, at=endpoint("9.9.7.7"))
        other.shake_hands(Ping(b"id", 1))
        other.say(Nodes(request_id, 1, (node.record.raw,)))
        assert ours.discv5.counts["dropped unsolicited"] == 2
        stranger.say(Nodes(request_id, 1, ()))
        assert Found(token, stranger.node, ()) in ours.discv5.events()

    def test_the_same_node_at_another_address_does_not_answer_for_itself(self) -> None:
        ours, stranger = acquainted()
        _, request_id = self.ask(ours, stranger, 256)
        elsewhere = Stranger(ours, at=endpoint("9.9.9.9", 4444))
        elsewhere.shake_hands(Ping(b"id", 1))
        ours.discv5.events()
        elsewhere.say(Nodes(request_id, 1, ()))
        assert ours.discv5.events() == []

    def answer(self, *records: bytes, at: Endpoint | None = None) -> tuple[Party, Stranger, tuple[Node, ...]]:
        """What is found if a stranger (at 9.9.9.9) answers a question for distances 254 to 256 with these records."""
        ours = Party()
        stranger = Stranger(ours, at=at)
        stranger.shake_hands(Ping(b"id", 1))
        ours.discv5.events()
        _, request_id = self.ask(ours, stranger, 256, 255, 254)
        stranger.say(Nodes(request_id, 1, records))
        (event,) = ours.discv5.events()
        assert isinstance(event, Found)
        return ours, stranger, event.nodes

    def record_of(self, at: Endpoint, stranger_id: bytes) -> bytes:
        """A record with that address of a node at distance 256."""
        records = (record_at(key_number(number), at) for number in range(100, 1000))
        return next(record.raw for record in records if distance(record.node_id, stranger_id) == 256)

    def test_records_at_other_distances_are_left_out(self) -> None:
        stranger_id = Stranger(Party()).record.node_id
        nodes = [node_number(number) for number in range(100, 200)]
        far = [node for node in nodes if distance(node.node_id, stranger_id) >= 254][:4]
        near = [node for node in nodes if distance(node.node_id, stranger_id) < 254][:4]
        ours, _, found = self.answer(
            *(node.record.raw for pairs in zip(near, far, strict=True) for node in pairs if node.record)
        )
        assert list(found) == far
        assert ours.discv5.counts["dropped record: unwanted"] == 4

    def test_the_asked_node_is_not_at_any_distance_from_itself(self) -> None:
        _, _, found = self.answer(Stranger(Party()).record.raw)
        assert found == ()

    def test_we_are_not_found(self) -> None:
        ours = Party()
        stranger_id = Stranger(ours).record.node_id
        assert distance(ours.record.node_id, stranger_id) >= 254
        _, _, found = self.answer(ours.record.raw)
        assert found == ()

    def test_a_record_with_a_wrong_signature_is_left_out(self) -> None:
        raw = self.record_of(endpoint("9.9.9.1"), Stranger(Party()).record.node_id)
        ours, _, found = self.answer(raw[:20] + bytes([raw[20] ^ 1]) + raw[21:], raw)
        assert len(found) == 1
        assert ours.discv5.counts["dropped record: malformed"] == 1

    def test_a_record_that_comes_twice_is_found_once(self) -> None:
        raw = self.record_of(endpoint("9.9.9.1"), Stranger(Party()).record.node_id)
        _, _, found = self.answer(raw, raw)
        assert len(found) == 1

    @pytest.mark.parametrize(
        ("at", "by", "kept"),
        [
            ("9.9.9.1", "9.9.9.9", True),
            ("192.168.0.1", "9.9.9.9", False),
            ("127.0.0.1", "9.9.9.9", False),
            ("0.0.0.0", "9.9.9.9", False),
            ("224.0.0.1", "9.9.9.9", False),
            ("192.168.0.1", "192.168.0.9", True),
            ("127.0.0.1", "192.168.0.9", False),
            ("127.0.0.1", "127.0.0.1", True),
            ("fd00::1", "9.9.9.9", False),
        ],
    )
    def test_addresses_must_be_such_as_their_source_may_know(self, at: str, by: str, kept: bool) -> None:
        source = endpoint(by)
        raw = self.record_of(endpoint(at), Stranger(Party(), at=source).record.node_id)
        _, _, found = self.answer(raw, at=source)
        assert bool(found) is kept

    @pytest.mark.parametrize(("port", "kept"), [(53, False), (1024, False), (1025, True), (65535, True)])
    def test_low_ports_are_left_out(self, port: int, kept: bool) -> None:
        raw = self.record_of(endpoint("9.9.9.1", port), Stranger(Party()).record.node_id)
        _, _, found = self.answer(raw)
        assert bool(found) is kept

    def test_a_record_without_an_address_is_left_out(self) -> None:
        stranger_id = Stranger(Party()).record.node_id
        raw = self.record_of(endpoint("9.9.9.1", 0), stranger_id)
        _, _, found = self.answer(raw)
        assert found == ()

    def test_no_more_than_sixteen_records_are_taken(self) -> None:
        ours, stranger = acquainted()
        token, request_id = self.ask(ours, stranger, 256)
        nodes = self.near(stranger, 20)
        for start in range(0, 20, 5):
            records = tuple(node.record.raw for node in nodes[start : start + 5] if node.record)
            stranger.say(Nodes(request_id, 5, records))
        assert ours.discv5.events() == [Found(token, stranger.node, tuple(nodes[:RESULT_LIMIT]))]
        assert ours.discv5.counts["dropped unsolicited"] == 0

    def test_no_more_than_sixteen_signatures_are_checked(self) -> None:
        ours, stranger = acquainted()
        token, request_id = self.ask(ours, stranger, 256)
        for part in range(5):
            junk = tuple(bytes([0xC2, part, number]) for number in range(50))
            stranger.say(Nodes(request_id, 5, junk))
        assert ours.discv5.events() == [Found(token, stranger.node, ())]
        assert ours.discv5.counts["dropped record: malformed"] == RESULT_LIMIT

    def test_no_more_than_five_packets_are_waited_for(self) -> None:
        ours, stranger = acquainted()
        token, request_id = self.ask(ours, stranger, 256)
        nodes = self.near(stranger, MOST_PARTS)
        for node in nodes:
            assert ours.discv5.events() == []
            assert node.record is not None
            stranger.say(Nodes(request_id, 200, (node.record.raw,)))
        assert ours.discv5.events() == [Found(token, stranger.node, tuple(nodes))]

    def test_a_total_of_zero_is_taken_for_one(self) -> None:
        ours, stranger = acquainted()
        token, request_id = self.ask(ours, stranger, 256)
        stranger.say(Nodes(request_id, 0, ()))
        assert ours.discv5.events() == [Found(token, stranger.node, ())]


class TestFetchRecord:
    def test_the_nodes_own_record_is_fetched(self) -> None:
        ours, stranger = acquainted()
        token = ours.discv5.fetch_record(stranger.node, 0.0)
        message = asked(stranger)
        assert message == FindNode(message.request_id, (0,))
        newer = record_at(stranger.key, stranger.endpoint, seq=3)
        stranger.say(Nodes(message.request_id, 1, (newer.raw,)))
        assert ours.discv5.events() == [RecordFetched(token, replace(stranger.node, record=newer))]

    def test_the_record_does_not_move_the_node_away_from_where_it_answered(self) -> None:
        ours, stranger = acquainted()
        ours.discv5.fetch_record(stranger.node, 0.0)
        moved = record_at(stranger.key, endpoint("1.1.1.1", 5555), seq=3)
        stranger.say(Nodes(asked(stranger).request_id, 1, (moved.raw,)))
        (event,) = ours.discv5.events()
        assert isinstance(event, RecordFetched)
        assert (event.node.endpoint, event.node.tcp_port) == (stranger.endpoint, 5555)

    @pytest.mark.parametrize("sent", ["nothing", "another's"])
    def test_anything_else_is_no_answer(self, sent: str) -> None:
        ours, stranger = acquainted()
        token = ours.discv5.fetch_record(stranger.node, 0.0)
        records = () if sent == "nothing" else (record_at(key_number(9), stranger.endpoint).raw,)
        stranger.say(Nodes(asked(stranger).request_id, 1, records))
        assert ours.discv5.events() == [Unanswered(token, stranger.node, "it did not send its record")]
