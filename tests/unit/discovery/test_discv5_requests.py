"""What discv5 asks, and which answers it believes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from ethsync.discovery.discv5 import TalkAnswered
from ethsync.discovery.discv5_calls import REQUEST_TIMEOUT
from ethsync.discovery.discv5_limits import Limits
from ethsync.discovery.discv5_messages import FindNode, Message, Nodes, Ping, Pong, TalkRequest, TalkResponse
from ethsync.discovery.discv5_packets import MAX_HANDSHAKE_MESSAGE, MAX_SIZE
from ethsync.discovery.protocol import AddressSeen, Event, RecordFetched, Unanswered
from ethsync.discovery.protocol import Pong as PongEvent
from ethsync.errors import LocalProtocolError
from tests.unit.discovery.discv5_bench import (
    Party,
    Stranger,
    acquainted,
    ask_something,
    asked,
    endpoint,
    node_number,
    record_at,
    unmasked,
)


class TestPing:
    def test_a_pong_proves_the_node_alive_and_says_where_we_are(self) -> None:
        ours, stranger = acquainted()
        token = ours.discv5.ping(stranger.node, 0.0)
        message = asked(stranger)
        assert message == Ping(message.request_id, ours.record.seq)
        seen = endpoint("8.8.8.8", 4444)
        stranger.say(Pong(message.request_id, 1, seen))
        assert ours.discv5.events() == [
            PongEvent(token, stranger.node),
            AddressSeen(stranger.record.node_id, seen, stranger.endpoint),
        ]
        assert ours.discv5.deadline == float("inf")

    def test_a_pong_that_nobody_asked_for_means_nothing(self) -> None:
        ours, stranger = acquainted()
        stranger.say(Pong(b"any", 99, endpoint("8.8.8.8")))
        assert ours.discv5.events() == []
        assert ours.discv5.counts["dropped unsolicited"] == 1
        assert stranger.take() == []  # nor is the record fetched that it announces

    def test_a_pong_counts_once(self) -> None:
        ours, stranger = acquainted()
        ours.discv5.ping(stranger.node, 0.0)
        pong = Pong(asked(stranger).request_id, 1, endpoint("8.8.8.8"))
        stranger.say(pong)
        ours.discv5.events()
        stranger.say(pong)
        assert ours.discv5.events() == []

    def test_a_pong_of_somebody_else_means_nothing(self) -> None:
        ours, stranger = acquainted()
        other = Stranger(ours, number=3, at=endpoint("9.9.7.7"))
        other.shake_hands(Ping(b"id", 1))
        ours.discv5.events()
        ours.discv5.ping(stranger.node, 0.0)
        other.say(Pong(asked(stranger).request_id, 1, endpoint("8.8.8.8")))
        assert ours.discv5.events() == []

    def test_an_answer_of_another_kind_means_nothing(self) -> None:
        ours, stranger = acquainted()
        ours.discv5.ping(stranger.node, 0.0)
        request_id = asked(stranger).request_id
        stranger.say(Nodes(request_id, 1, ()))
        stranger.say(TalkResponse(request_id, b""))
        assert ours.discv5.events() == []

    def test_a_pong_after_the_timeout_means_nothing(self) -> None:
        ours, stranger = acquainted()
        token = ours.discv5.ping(stranger.node, 0.0)
        message = asked(stranger)
        ours.discv5.advance(REQUEST_TIMEOUT)
        stranger.say(Pong(message.request_id, 1, endpoint("8.8.8.8")), now=REQUEST_TIMEOUT)
        assert ours.discv5.events() == [Unanswered(token, stranger.node, "no answer")]

    @pytest.mark.parametrize("where", ["192.168.0.1", "127.0.0.1", "0.0.0.0", "2001:4860::8888"])
    def test_a_place_where_we_cannot_be_is_not_passed_on(self, where: str) -> None:
        ours, stranger = acquainted()
        ours.discv5.ping(stranger.node, 0.0)
        stranger.say(Pong(asked(stranger).request_id, 1, endpoint(where)))
        assert [type(event) for event in ours.discv5.events()] == [PongEvent]

    def test_our_new_record_is_announced(self) -> None:
        ours, stranger = acquainted()
        ours.discv5.set_record(record_at(ours.key, ours.endpoint, seq=2))
        ours.discv5.ping(stranger.node, 0.0)
        message = asked(stranger)
        assert isinstance(message, Ping)
        assert message.enr_seq == 2
        assert stranger.say(Ping(b"id", 1)) == [Pong(b"id", 2, stranger.endpoint)]


class TestRenewal:
    """A record that its owner says is newer than ours is fetched."""

    @staticmethod
    def pong(ours: Party, stranger: Stranger, seq: int, now: float = 0.0) -> list[Message | None]:
        ours.discv5.ping(stranger.node, now)
        return stranger.say(Pong(asked(stranger).request_id, seq, ours.endpoint), now)

    def test_a_pong_with_a_newer_number_makes_us_ask(self) -> None:
        ours, stranger = acquainted()
        (message,) = self.pong(ours, stranger, 2)
        assert isinstance(message, FindNode)
        assert message.distances == (0,)
        ours.discv5.events()
        newer = record_at(stranger.key, stranger.endpoint, seq=2)
        stranger.say(Nodes(message.request_id, 1, (newer.raw,)))
        (event,) = ours.discv5.events()
        assert isinstance(event, RecordFetched)
        assert event.node == replace(stranger.node, record=newer)

    def test_so_does_a_ping(self) -> None:
        _, stranger = acquainted()
        pong, question = stranger.say(Ping(b"id", 2))
        assert isinstance(pong, Pong)
        assert isinstance(question, FindNode)
        assert question.distances == (0,)

    def test_the_same_number_does_not(self) -> None:
        ours, stranger = acquainted()
        assert self.pong(ours, stranger, 1) == []
        assert len(stranger.say(Ping(b"id", 1))) == 1

    def test_nor_does_a_number_that_was_fetched(self) -> None:
        ours, stranger = acquainted()
        (message,) = self.pong(ours, stranger, 2)
        assert message is not None
        stranger.say(Nodes(message.request_id, 1, (record_at(stranger.key, stranger.endpoint, seq=2).raw,)))
        assert self.pong(ours, stranger, 2) == []

    def test_one_question_at_a_time(self) -> None:
        ours, stranger = acquainted()
        assert len(self.pong(ours, stranger, 2)) == 1
        assert self.pong(ours, stranger, 3) == []

    def test_that_it_was_not_answered_is_nobodys_business(self) -> None:
        ours, stranger = acquainted()
        self.pong(ours, stranger, 2)
        ours.discv5.events()
        ours.discv5.advance(REQUEST_TIMEOUT)
        assert ours.discv5.events() == []

    def test_who_announces_and_does_not_deliver_is_asked_rarely(self) -> None:
        ours, stranger = acquainted(limits=Limits(renewals=0.1, renewal_burst=2.0))
        questions = 0
        for second in range(100):
            ours.discv5.advance(second)
            questions += len(self.pong(ours, stranger, 10 + second, float(second)))
        assert questions == 2 + 9

    def test_a_node_whose_record_we_lack_is_asked_for_it(self) -> None:
        ours = Party()
        stranger = Stranger(ours, seq=0)
        ours.discv5.ping(replace(stranger.node, record=None), 0.0)
        request = stranger.challenge_request(stranger.take()[0])
        (question,) = stranger.say(Pong(request.request_id, 0, ours.endpoint))
        assert isinstance(question, FindNode)
        assert question.distances == (0,)


class TestTalk:
    def test_a_request_is_answered(self) -> None:
        ours, stranger = acquainted()
        token = ours.discv5.talk_request(stranger.node, b"portal", b"question", 0.0)
        message = asked(stranger)
        assert message == TalkRequest(message.request_id, b"portal", b"question")
        stranger.say(TalkResponse(message.request_id, b"answer"))
        events: list[Event | TalkAnswered] = [*ours.discv5.events()]
        assert events == [TalkAnswered(token, stranger.node, b"answer")]

    def test_an_answer_that_nobody_asked_for_means_nothing(self) -> None:
        ours, stranger = acquainted()
        stranger.say(TalkResponse(b"any", b"answer"))
        assert ours.discv5.events() == []

    def test_a_request_is_long_enough_when_a_handshake_with_the_longest_record_is_full(self) -> None:
        ours = Party()
        size = 300 - len(record_at(ours.key, ours.endpoint, zz=b"\xb8\x80" + b"p" * 128).raw) + 128
        ours.discv5.set_record(record_at(ours.key, ours.endpoint, zz=b"\xb8" + bytes([size]) + b"p" * size))
        stranger = Stranger(ours)
        overhead = len(TalkRequest(b"i" * 8, b"portal", b"q" * 700).encode()) - 700
        longest = MAX_HANDSHAKE_MESSAGE - overhead
        ours.discv5.talk_request(stranger.node, b"portal", b"q" * longest, 0.0)
        whoareyou, challenge_data = stranger.whoareyou(unmasked(stranger.take()[0], stranger.record.node_id).nonce)
        (data,) = stranger.put(whoareyou)
        assert len(data) == MAX_SIZE
        assert isinstance(stranger.accept(data, challenge_data), TalkRequest)
        with pytest.raises(LocalProtocolError):
            ours.discv5.talk_request(stranger.node, b"portal", b"q" * (longest + 1), 0.0)


class TestBounds:
    def test_requests_to_one_node_are_bounded(self) -> None:
        ours, stranger = acquainted(limits=Limits(calls_per_place=3))
        tokens = [ours.discv5.ping(stranger.node, 0.0) for _ in range(5)]
        refused = ours.discv5.events()
        assert [event.token for event in refused if isinstance(event, Unanswered)] == tokens[3:]
        assert len(stranger.take()) == 3

    def test_requests_are_bounded_in_all(self) -> None:
        ours = Party(limits=Limits(calls=50))
        for number in range(100, 200):
            ours.discv5.ping(node_number(number), 0.0)
        assert len(ours.discv5.events()) == 50
        ours.discv5.advance(1.0)
        assert len(ours.discv5.events()) == 50
        assert ours.discv5.deadline == float("inf")

    def test_every_request_ends_in_exactly_one_event_whatever_comes(self) -> None:
        rng = random.Random(5)
        ours, stranger = acquainted()
        tokens: list[int] = []
        ended: list[int] = []
        ids: list[bytes] = []
        now = 0.0
        for _ in range(400):
            now += rng.random() * 0.3
            ours.discv5.advance(now)
            tokens.append(ask_something(rng, ours.discv5, stranger.node, now))
            ids += [message.request_id for data in stranger.take() if (message := stranger.read(data)) is not None]
            request_id = rng.choice(ids[-4:])
            answers: list[Message] = [
                Pong(request_id, 1, ours.endpoint),
                Nodes(request_id, rng.randrange(3), (stranger.record.raw,)),
                TalkResponse(request_id, b""),
            ]
            stranger.put(stranger.sealed(rng.choice(answers).encode()), now)
            ended += [event.token for event in ours.discv5.events() if not isinstance(event, AddressSeen)]  # type: ignore[union-attr]
        ours.discv5.advance(now + 10)
        ended += [event.token for event in ours.discv5.events()]  # type: ignore[union-attr]
        assert sorted(ended) == tokens
