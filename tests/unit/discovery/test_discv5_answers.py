"""What discv5 answers to the requests of others."""

from __future__ import annotations

import pytest
import rlp

from ethsync.discovery import discv5_packets as packets
from ethsync.discovery.discv5_answers import MOST_PARTS, split_records
from ethsync.discovery.discv5_limits import Limits
from ethsync.discovery.discv5_messages import FindNode, Nodes, Ping, Pong, TalkRequest, TalkResponse
from ethsync.discovery.node import Node, distance
from tests.unit.discovery.discv5_bench import Party, Stranger, acquainted, endpoint, key_number, node_number, record_at


class TestPing:
    def test_a_ping_is_answered_with_the_address_it_came_from(self) -> None:
        ours, stranger = acquainted()
        assert stranger.say(Ping(b"", 1)) == [Pong(b"", ours.record.seq, stranger.endpoint)]

    def test_over_ipv6_too(self) -> None:
        ours = Party(at=endpoint("2001:4860::8888"))
        stranger = Stranger(ours, at=endpoint("2a00:1450::1", 9999))
        (data,) = stranger.shake_hands(Ping(b"id", 1))
        assert stranger.read(data) == Pong(b"id", 1, stranger.endpoint)

    def test_a_ping_with_a_long_request_id_is_not_answered(self) -> None:
        ours, stranger = acquainted()
        assert stranger.put(stranger.sealed(b"\x01" + rlp.encode([b"9 bytes..", 1]))) == []
        assert ours.discv5.counts["dropped malformed"] == 1


class TestFindNode:
    @staticmethod
    def records(answers: list[object], request_id: bytes = b"id") -> list[bytes]:
        """The records of an answer; every part says how many there are."""
        parts = [answer for answer in answers if isinstance(answer, Nodes)]
        assert len(parts) == len(answers) >= 1
        assert {(part.request_id, part.total) for part in parts} == {(request_id, len(parts))}
        return [record for part in parts for record in part.records]

    @staticmethod
    def fill(ours: Party, count: int) -> list[Node]:
        ours.table.nodes = [node_number(number) for number in range(100, 100 + count)]
        return ours.table.nodes

    def ask(self, stranger: Stranger, *distances: int) -> list[bytes]:
        return self.records([*stranger.say(FindNode(b"id", distances))])

    def test_distance_zero_is_our_own_record(self) -> None:
        ours, stranger = acquainted()
        self.fill(ours, 20)
        assert self.ask(stranger, 0) == [ours.record.raw]

    def test_nodes_at_the_wanted_distances_are_named(self) -> None:
        ours, stranger = acquainted()
        nodes = self.fill(ours, 40)
        for wanted in ([255], [253, 254], [254, 253, 0]):
            at_wanted = {
                node.record.raw
                for node in nodes
                if node.record and distance(node.node_id, ours.record.node_id) in wanted
            }
            expected = at_wanted | ({ours.record.raw} if 0 in wanted else set())
            assert 0 < len(expected) <= 16
            assert set(self.ask(stranger, *wanted)) == expected

    def test_an_empty_answer_is_one_packet_without_records(self) -> None:
        _, stranger = acquainted()
        assert stranger.say(FindNode(b"id", (250,))) == [Nodes(b"id", 1, ())]
        assert stranger.say(FindNode(b"id", ())) == [Nodes(b"id", 1, ())]

    def test_at_most_sixteen_records_are_named_those_of_the_first_distance_first(self) -> None:
        ours, stranger = acquainted()
        self.fill(ours, 200)
        named = self.ask(stranger, 254, 256)
        at_254 = [
            node.record.raw
            for node in ours.table.nodes
            if node.record and distance(node.node_id, ours.record.node_id) == 254
        ]
        assert len(named) == 16
        assert named == at_254[:16]
        with_own = self.ask(stranger, 256, 0)
        assert len(with_own) == 16
        assert with_own[0] == ours.record.raw

    def test_a_distance_that_is_asked_for_twice_counts_once(self) -> None:
        ours, stranger = acquainted()
        self.fill(ours, 8)
        assert self.ask(stranger, 0, 0, 256, 256) == self.ask(stranger, 0, 256)

    def test_distances_that_do_not_exist_are_ignored(self) -> None:
        ours, stranger = acquainted()
        self.fill(ours, 8)
        assert self.ask(stranger, 257, 2**64 - 1, 256) == self.ask(stranger, 256)

    def test_more_distances_than_there_are_get_no_answer(self) -> None:
        _, stranger = acquainted()
        assert stranger.say(FindNode(b"id", (1,) * 258)) == []

    def test_private_addresses_are_not_named_to_the_world(self) -> None:
        ours, stranger = acquainted()
        home = [node_number(number, endpoint(f"192.168.0.{number}")) for number in range(100, 110)]
        ours.table.nodes = home
        assert self.ask(stranger, 256, 255) == []
        neighbour = Stranger(ours, number=3, at=endpoint("192.168.0.9"))
        neighbour.shake_hands(Ping(b"id", 1))
        assert len(self.ask(neighbour, 256, 255)) > 0

    def test_no_packet_is_too_long_whatever_the_records(self) -> None:
        ours, stranger = acquainted()
        nodes = []
        for number in range(100, 140):
            at = endpoint(f"9.9.1.{number}")
            long = record_at(key_number(number), at, zz=b"\xb8\x90" + b"p" * 144)
            assert 290 < len(long.raw) <= 300  # three to a packet
            nodes.append(Node(long.node_id, long.public_key, at, 30303, long))
        ours.table.nodes = nodes
        answers = stranger.put(stranger.sealed(FindNode(b"12345678", (256, 255, 254)).encode()))
        assert len(answers) == MOST_PARTS  # what takes more packets nobody waits for
        assert all(len(data) <= packets.MAX_SIZE for data in answers)
        assert len(self.records([stranger.read(data) for data in answers], b"12345678")) == 3 * MOST_PARTS

    @pytest.mark.parametrize(("sizes", "parts"), [([], [0]), ([300] * 4, [3, 1]), ([130] * 9, [8, 1])])
    def test_records_are_divided_among_packets(self, sizes: list[int], parts: list[int]) -> None:
        assert [len(part) for part in split_records([b"r" * size for size in sizes])] == parts


class TestTalk:
    def test_a_protocol_that_is_not_spoken_gets_an_empty_answer(self) -> None:
        _, stranger = acquainted()
        assert stranger.say(TalkRequest(b"id", b"portal", b"question")) == [TalkResponse(b"id", b"")]

    def test_a_spoken_one_answers(self) -> None:
        def portal(node: Node, request: bytes) -> bytes:
            return request + b" of " + node.node_id

        _, stranger = acquainted(talk={b"portal": portal})
        answer = b"question of " + stranger.record.node_id
        assert stranger.say(TalkRequest(b"id", b"portal", b"question")) == [TalkResponse(b"id", answer)]
        assert stranger.say(TalkRequest(b"id", b"other", b"question")) == [TalkResponse(b"id", b"")]

    def test_an_answer_that_fits_into_no_packet_is_left_out(self) -> None:
        _, stranger = acquainted(talk={b"echo": lambda node, request: request * 2})
        (data,) = stranger.put(stranger.sealed(TalkRequest(b"id", b"echo", b"q" * 590).encode()))
        assert 1250 < len(data) <= packets.MAX_SIZE
        assert stranger.say(TalkRequest(b"id", b"echo", b"q" * 600)) == [TalkResponse(b"id", b"")]


class TestOthers:
    @pytest.mark.parametrize("kind", [7, 8, 9, 10, 200])
    def test_topics_and_what_may_come_after_them_are_ignored_without_harm(self, kind: int) -> None:
        ours, stranger = acquainted()
        assert stranger.put(stranger.sealed(bytes([kind]) + rlp.encode([b"id", b"topic"]))) == []
        assert ours.discv5.counts["dropped unknown message"] == 1
        assert ours.discv5.counts["dropped malformed"] == 0
        assert len(stranger.say(Ping(b"id", 1))) == 1

    def test_requests_of_one_node_are_answered_at_a_limited_rate(self) -> None:
        ours, stranger = acquainted(limits=Limits(requests=10.0, request_burst=30.0))
        answered = sum(len(stranger.say(Ping(b"id", 1), now=10.0 + number / 1000)) for number in range(1000))
        assert answered == 30 + 9
        assert ours.discv5.counts["dropped too many requests"] == 1000 - answered

    def test_a_node_with_many_addresses_has_one_rate(self) -> None:
        ours = Party(limits=Limits(requests=10.0, request_burst=30.0))
        places = [Stranger(ours, at=endpoint("9.9.9.9", port)) for port in range(1, 6)]
        for place in places:
            assert len(place.shake_hands(Ping(b"id", 1))) == 1
        answered = sum(len(place.say(Ping(b"id", 1), now=10.0)) for _ in range(20) for place in places)
        assert answered == 30

    def test_the_rate_of_one_node_is_not_that_of_another(self) -> None:
        ours, stranger = acquainted()
        for _ in range(100):
            stranger.say(Ping(b"id", 1))
        other = Stranger(ours, number=3, at=endpoint("9.9.7.7"))
        assert len(other.shake_hands(Ping(b"id", 1))) == 1
