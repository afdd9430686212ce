"""Handshakes and sessions of discv5.1, with everything that may come in between."""

from __future__ import annotations

import pytest

from ethsync.discovery import discv5_crypto as crypto
from ethsync.discovery import discv5_packets as packets
from ethsync.discovery.discv5_calls import HANDSHAKE_TIMEOUT, REQUEST_TIMEOUT
from ethsync.discovery.discv5_messages import Nodes, Ping, Pong
from ethsync.discovery.discv5_packets import Flag
from ethsync.discovery.discv5_sessions import CHALLENGE_LIFETIME, MOST_ATTEMPTS, REPETITION_TIME, Session, Sessions
from ethsync.discovery.node import Datagram, Endpoint
from ethsync.discovery.protocol import Met, Unanswered
from ethsync.discovery.protocol import Pong as PongEvent
from tests.unit.discovery.discv5_bench import (
    Party,
    Stranger,
    asked,
    endpoint,
    flags_sent,
    key_number,
    pair,
    record_at,
    unmasked,
)

HANDSHAKE_FLAGS = [Flag.MESSAGE, Flag.HANDSHAKE]


class TestBetweenTwo:
    def test_the_first_ping_goes_through_a_handshake_and_the_second_does_not(self) -> None:
        wires, ours, theirs = pair()
        first = ours.discv5.ping(theirs.node, wires.now)
        wires.run()
        assert ours.take_event(PongEvent) == PongEvent(first, theirs.node)
        assert flags_sent(wires, ours, theirs) == HANDSHAKE_FLAGS
        assert flags_sent(wires, theirs, ours) == [Flag.WHOAREYOU, Flag.MESSAGE]
        second = ours.discv5.ping(theirs.node, wires.now)
        wires.run()
        assert ours.take_event(PongEvent).token == second
        assert flags_sent(wires, ours, theirs) == [*HANDSHAKE_FLAGS, Flag.MESSAGE]
        assert flags_sent(wires, theirs, ours) == [Flag.WHOAREYOU, Flag.MESSAGE, Flag.MESSAGE]

    def test_the_called_one_uses_the_session_too(self) -> None:
        wires, ours, theirs = pair()
        ours.discv5.ping(theirs.node, wires.now)
        wires.run()
        token = theirs.discv5.ping(ours.node, wires.now)
        wires.run()
        assert theirs.take_event(PongEvent).token == token
        assert flags_sent(wires, theirs, ours).count(Flag.HANDSHAKE) == 0

    def test_who_is_called_meets_the_caller(self) -> None:
        wires, ours, theirs = pair()
        ours.discv5.ping(theirs.node, wires.now)
        wires.run()
        assert theirs.take_event(Met) == Met(ours.node)
        assert ours.take_events(Met) == []

    def test_requests_wait_for_the_handshake_and_go_out_under_the_new_session(self) -> None:
        wires, ours, theirs = pair()
        tokens = [ours.discv5.ping(theirs.node, wires.now) for _ in range(5)]
        wires.run()
        assert [event.token for event in ours.take_events(PongEvent)] == tokens
        assert flags_sent(wires, ours, theirs) == [*HANDSHAKE_FLAGS, *[Flag.MESSAGE] * 4]

    def test_who_lost_the_session_is_asked_again_under_a_new_one(self) -> None:
        wires, ours, theirs = pair()
        ours.discv5.ping(theirs.node, wires.now)
        wires.run()
        theirs.restart()
        wires.log.clear()
        ours.take_events(PongEvent)
        token = ours.discv5.ping(theirs.node, wires.now)
        wires.run()
        assert ours.take_event(PongEvent).token == token
        assert flags_sent(wires, ours, theirs) == HANDSHAKE_FLAGS

    def test_who_lost_the_session_can_begin_a_new_one(self) -> None:
        wires, ours, theirs = pair()
        ours.discv5.ping(theirs.node, wires.now)
        wires.run()
        theirs.restart()
        wires.log.clear()
        theirs.discv5.ping(ours.node, wires.now)
        wires.run()
        assert len(theirs.take_events(PongEvent)) == 1
        assert flags_sent(wires, theirs, ours) == HANDSHAKE_FLAGS
        ours.take_events(PongEvent)
        ours.discv5.ping(theirs.node, wires.now)
        wires.run()
        assert len(ours.take_events(PongEvent)) == 1
        assert flags_sent(wires, ours, theirs).count(Flag.HANDSHAKE) == 0

    def test_all_requests_in_flight_survive_a_lost_session(self) -> None:
        wires, ours, theirs = pair()
        ours.discv5.ping(theirs.node, wires.now)
        wires.run()
        theirs.restart()
        ours.take_events(PongEvent)
        wires.log.clear()
        tokens = [ours.discv5.ping(theirs.node, wires.now) for _ in range(4)]
        wires.run()
        assert sorted(event.token for event in ours.take_events(PongEvent)) == tokens
        assert flags_sent(wires, ours, theirs).count(Flag.HANDSHAKE) == 1

    def test_a_node_with_another_address_needs_another_session(self) -> None:
        wires, ours, theirs = pair()
        ours.discv5.ping(theirs.node, wires.now)
        wires.run()
        wires.move(theirs, endpoint("9.9.8.8", 9000))
        wires.log.clear()
        token = theirs.discv5.ping(ours.node, wires.now)
        wires.run()
        # It does not know of its move and uses its session with us, which does not hold from there.
        assert flags_sent(wires, ours, theirs) == [Flag.WHOAREYOU, Flag.MESSAGE]
        assert flags_sent(wires, theirs, ours) == HANDSHAKE_FLAGS
        assert theirs.take_event(PongEvent).token == token

    def test_when_both_call_at_once_both_are_answered(self) -> None:
        wires, ours, theirs = pair()
        ours.discv5.ping(theirs.node, wires.now)
        theirs.discv5.ping(ours.node, wires.now)
        wires.run()
        assert len(ours.take_events(PongEvent)) == len(theirs.take_events(PongEvent)) == 1

    @pytest.mark.parametrize("first", [0, 1])
    @pytest.mark.parametrize(("pause", "kinds"), [(1.0, {Flag.MESSAGE}), (60.0, set(Flag))])
    def test_after_crossed_handshakes_all_goes_on_at_once_and_later_after_another_one(
        self, first: int, pause: float, kinds: set[Flag]
    ) -> None:
        wires, *parties = pair()
        for party, other in (parties, parties[::-1]):
            party.discv5.ping(other.node, wires.now)
        wires.run(pause)
        wires.log.clear()
        caller, called = parties[first], parties[1 - first]
        for party, other in ((caller, called), (called, caller), (caller, called)):
            party.take_events(PongEvent)
            party.discv5.ping(other.node, wires.now)
            wires.run(pause)
            assert len(party.take_events(PongEvent)) == 1
        assert {*flags_sent(wires, caller, called), *flags_sent(wires, called, caller)} == kinds

    def test_nobody_there_is_noticed_after_the_handshake_timeout(self) -> None:
        wires, ours, theirs = pair(passes=lambda source, datagram: False)
        tokens = [ours.discv5.ping(theirs.node, wires.now) for _ in range(3)]
        assert ours.discv5.deadline == HANDSHAKE_TIMEOUT
        wires.run(HANDSHAKE_TIMEOUT - 0.01)
        assert ours.take_events(Unanswered) == []
        wires.run(0.02)
        assert [event.token for event in ours.take_events(Unanswered)] == tokens
        assert ours.discv5.deadline == float("inf")
        assert len(wires.log) == 1

    def test_silence_under_a_session_is_noticed_after_the_request_timeout(self) -> None:
        wires, ours, theirs = pair()
        ours.discv5.ping(theirs.node, wires.now)
        wires.run()
        wires.passes = lambda source, datagram: False
        token = ours.discv5.ping(theirs.node, wires.now)
        assert ours.discv5.deadline == wires.now + REQUEST_TIMEOUT
        wires.run(REQUEST_TIMEOUT + 0.01)
        assert ours.take_event(Unanswered).token == token

    def test_a_lost_handshake_costs_one_request_and_not_those_behind_it(self) -> None:
        wires, ours, theirs = pair()

        lost: list[Datagram] = []

        def passes(source: Endpoint, datagram: Datagram) -> bool:
            if datagram.to == ours.endpoint or lost:
                return True
            if unmasked(datagram.data, theirs.record.node_id).flag is Flag.HANDSHAKE:
                lost.append(datagram)
            return not lost

        wires.passes = passes
        tokens = [ours.discv5.ping(theirs.node, wires.now) for _ in range(3)]
        wires.run()
        assert ours.take_event(Unanswered).token == tokens[0]
        assert sorted(event.token for event in ours.take_events(PongEvent)) == tokens[1:]

    def test_a_request_without_a_port_to_send_it_to_fails_at_once(self) -> None:
        ours = Party()
        token = ours.discv5.ping(Stranger(ours, at=endpoint("9.9.9.9", 0)).node, 0.0)
        assert ours.take_event(Unanswered).token == token
        assert ours.discv5.packets() == []


class TestWeAreCalled:
    """We challenge; what answers the challenge is right only if all of it is."""

    @pytest.fixture
    def ours(self) -> Party:
        return Party()

    def test_an_unreadable_packet_is_answered_with_a_challenge_for_its_nonce(self, ours: Party) -> None:
        stranger = Stranger(ours)
        (data,) = stranger.put(stranger.unreadable(b"the nonce 12"))
        packet = unmasked(data, stranger.record.node_id)
        assert (packet.flag, packet.nonce) == (Flag.WHOAREYOU, b"the nonce 12")
        assert packets.decode_whoareyou(packet.authdata).enr_seq == 0

    def test_the_handshake_is_answered_under_the_new_session(self, ours: Party) -> None:
        stranger = Stranger(ours)
        (data,) = stranger.shake_hands(Ping(b"id", 1))
        assert stranger.read(data) == Pong(b"id", ours.record.seq, stranger.endpoint)
        assert ours.take_event(Met).node == stranger.node

    def test_the_second_challenge_names_the_record_that_came_with_the_first_handshake(self, ours: Party) -> None:
        stranger = Stranger(ours, seq=7)
        stranger.shake_hands(Ping(b"id", 7))
        (data,) = stranger.put(stranger.unreadable(), now=5.0)
        assert packets.decode_whoareyou(unmasked(data, stranger.record.node_id).authdata).enr_seq == 7
        (data,) = stranger.put(stranger.handshake(data, Ping(b"id", 7), record=b""), now=5.0)
        assert stranger.read(data) == Pong(b"id", ours.record.seq, stranger.endpoint)

    def test_a_handshake_without_record_of_an_unknown_node_is_refused(self, ours: Party) -> None:
        stranger = Stranger(ours)
        (whoareyou,) = stranger.put(stranger.unreadable())
        assert stranger.put(stranger.handshake(whoareyou, Ping(b"id", 1), record=b"")) == []
        assert ours.discv5.counts["dropped malformed"] == 1

    @pytest.mark.parametrize(
        "damage", ["signature of the record", "record of another", "signer", "record and signer", "recipient"]
    )
    def test_a_forged_handshake_is_refused(self, ours: Party, damage: str) -> None:
        stranger = Stranger(ours)
        raw = stranger.record.raw
        wrong = {
            "signature of the record": {"record": raw[:10] + bytes([raw[10] ^ 1]) + raw[11:]},
            "record of another": {"record": record_at(key_number(3), stranger.endpoint).raw},
            "signer": {"signer": key_number(3)},
            "record and signer": {
                "record": record_at(key_number(3), stranger.endpoint).raw,
                "signer": key_number(3),
            },
            "recipient": {"recipient_id": b"x" * 32},
        }
        (whoareyou,) = stranger.put(stranger.unreadable())
        assert stranger.put(stranger.handshake(whoareyou, Ping(b"id", 1), **wrong[damage])) == []  # type: ignore[arg-type]
        assert ours.take_events(Met) == []
        assert ours.discv5.counts["dropped malformed"] == 1
        # The right one still gets through.
        assert len(stranger.put(stranger.handshake(whoareyou, Ping(b"id", 1)))) == 1

    def test_an_ephemeral_key_that_is_no_point_is_refused(self, ours: Party) -> None:
        stranger = Stranger(ours)
        (whoareyou,) = stranger.put(stranger.unreadable())
        challenge = unmasked(whoareyou, stranger.record.node_id)
        ephemeral_key = b"\x02" + b"\xff" * 32
        signature = crypto.sign_id(stranger.key, challenge.ad, ephemeral_key, ours.record.node_id)
        authdata = packets.Handshake(stranger.record.node_id, signature, ephemeral_key, stranger.record.raw).encode()
        start, _ = packets.mask(Flag.HANDSHAKE, b"n" * 12, authdata, ours.record.node_id, b"i" * 16)
        assert stranger.put(start + b"m" * 30) == []
        assert ours.discv5.counts["dropped malformed"] == 1

    def test_a_handshake_whose_message_is_damaged_begins_no_session(self, ours: Party) -> None:
        stranger = Stranger(ours)
        (whoareyou,) = stranger.put(stranger.unreadable())
        data = stranger.handshake(whoareyou, Ping(b"id", 1))
        assert stranger.put(data[:-1] + bytes([data[-1] ^ 1])) == []
        assert stranger.put(stranger.sealed(Ping(b"id", 1).encode()), now=2.0) != []  # a challenge, no PONG
        assert ours.discv5.counts["received Ping"] == 0

    def test_too_many_wrong_answers_close_a_challenge(self, ours: Party) -> None:
        stranger = Stranger(ours)
        (whoareyou,) = stranger.put(stranger.unreadable())
        for _ in range(MOST_ATTEMPTS):
            stranger.put(stranger.handshake(whoareyou, Ping(b"id", 1), signer=key_number(3)))
        assert stranger.put(stranger.handshake(whoareyou, Ping(b"id", 1))) == []
        assert ours.discv5.counts["dropped handshake"] == 1

    def test_a_handshake_without_a_challenge_is_dropped(self, ours: Party) -> None:
        stranger = Stranger(ours)
        made_up, _ = packets.mask(Flag.WHOAREYOU, b"n" * 12, b"a" * 24, stranger.record.node_id, b"i" * 16)
        assert stranger.put(stranger.handshake(made_up, Ping(b"id", 1))) == []
        assert ours.discv5.counts["dropped handshake"] == 1

    def test_a_handshake_from_another_address_than_the_challenged_one_is_dropped(self, ours: Party) -> None:
        stranger = Stranger(ours)
        (whoareyou,) = stranger.put(stranger.unreadable())
        data = stranger.handshake(whoareyou, Ping(b"id", 1))
        for elsewhere in (endpoint("9.9.9.8"), endpoint("9.9.9.9", 30304)):
            assert stranger.put(data, source=elsewhere) == []
        assert ours.discv5.counts["dropped handshake"] == 2
        assert len(stranger.put(data)) == 1

    def test_a_handshake_that_is_played_again_is_dropped(self, ours: Party) -> None:
        stranger = Stranger(ours)
        (whoareyou,) = stranger.put(stranger.unreadable())
        data = stranger.handshake(whoareyou, Ping(b"id", 1))
        assert len(stranger.put(data)) == 1
        assert stranger.put(data) == []
        assert ours.discv5.counts["dropped handshake"] == 1

    @pytest.mark.parametrize(("after", "answers"), [(CHALLENGE_LIFETIME, 1), (CHALLENGE_LIFETIME + 0.01, 0)])
    def test_a_challenge_is_good_for_a_second(self, ours: Party, after: float, answers: int) -> None:
        stranger = Stranger(ours)
        (whoareyou,) = stranger.put(stranger.unreadable())
        assert len(stranger.put(stranger.handshake(whoareyou, Ping(b"id", 1)), now=after)) == answers

    def test_a_second_packet_gets_the_same_challenge_while_the_handshake_may_be_on_its_way(self, ours: Party) -> None:
        stranger = Stranger(ours)
        first = stranger.put(stranger.unreadable())
        assert stranger.put(stranger.unreadable(), now=REPETITION_TIME) == first
        assert len(stranger.put(stranger.handshake(first[0], Ping(b"id", 1)), now=REPETITION_TIME)) == 1

    def test_a_later_packet_gets_a_challenge_of_its_own(self, ours: Party) -> None:
        stranger = Stranger(ours)
        (first,) = stranger.put(stranger.unreadable())
        (second,) = stranger.put(stranger.unreadable(b"another one!"), now=REPETITION_TIME + 0.01)
        assert unmasked(second, stranger.record.node_id).nonce == b"another one!"
        assert stranger.put(stranger.handshake(first, Ping(b"id", 1)), now=0.6) == []
        assert len(stranger.put(stranger.handshake(second, Ping(b"id", 1)), now=0.6)) == 1

    def test_a_session_holds_for_one_id_at_one_address(self, ours: Party) -> None:
        stranger = Stranger(ours)
        stranger.shake_hands(Ping(b"id", 1))
        elsewhere = Stranger(ours, at=endpoint("9.9.9.9", 30304))
        elsewhere.write_key, elsewhere.read_key = stranger.write_key, stranger.read_key
        (data,) = elsewhere.put(elsewhere.sealed(Ping(b"id", 1).encode()))
        assert unmasked(data, elsewhere.record.node_id).flag is Flag.WHOAREYOU
        assert len(stranger.say(Ping(b"id", 1))) == 1

    def test_a_challenge_does_not_end_the_session_that_there_is(self, ours: Party) -> None:
        stranger = Stranger(ours)
        stranger.shake_hands(Ping(b"id", 1))
        forged = Stranger(ours)  # somebody who can write our peer's id and address on a packet
        assert len(forged.put(forged.unreadable(), now=1.0)) == 1
        assert stranger.say(Ping(b"id", 1), now=1.1) == [Pong(b"id", ours.record.seq, stranger.endpoint)]

    def test_an_answer_comes_under_the_session_of_the_question(self, ours: Party) -> None:
        stranger = Stranger(ours)
        stranger.shake_hands(Ping(b"id", 1))
        old_keys = stranger.write_key, stranger.read_key
        stranger.shake_hands(Ping(b"id", 1), now=5.0)
        new_keys = stranger.write_key, stranger.read_key
        for keys in (old_keys, new_keys, old_keys):
            stranger.write_key, stranger.read_key = keys
            assert stranger.say(Ping(b"id", 1), now=5.0) == [Pong(b"id", ours.record.seq, stranger.endpoint)]

    def test_our_questions_go_under_the_session_that_the_other_side_used_last(self, ours: Party) -> None:
        stranger = Stranger(ours)
        stranger.shake_hands(Ping(b"id", 1))
        old_keys = stranger.write_key, stranger.read_key
        stranger.shake_hands(Ping(b"id", 1), now=5.0)
        stranger.write_key, stranger.read_key = old_keys
        stranger.say(Ping(b"id", 1), now=5.0)
        ours.discv5.ping(stranger.node, 5.0)
        assert isinstance(asked(stranger), Ping)

    def test_only_the_last_two_sessions_are_kept(self) -> None:
        sessions, place = Sessions(8), (b"i" * 32, endpoint("9.9.9.9"))
        first, second, third = (Session(Stranger(Party()).node, b"w" * 16, b"r" * 16, confirmed=True) for _ in range(3))
        for session in (first, second, third):
            sessions.begin(place, session, 0.0)
        assert sessions.get(place) is third
        assert third.previous is second
        assert second.previous is None

    def test_only_the_last_two_sessions_count(self, ours: Party) -> None:
        stranger = Stranger(ours)
        stranger.shake_hands(Ping(b"id", 1))
        oldest = stranger.write_key
        for now in (5.0, 10.0):
            stranger.shake_hands(Ping(b"id", 1), now)
        stranger.write_key = oldest
        (data,) = stranger.put(stranger.sealed(Ping(b"id", 1).encode()), now=15.0)
        assert unmasked(data, stranger.record.node_id).flag is Flag.WHOAREYOU

    def test_a_record_with_the_address_of_somebody_else_is_met_there_only_if_it_may_be(self, ours: Party) -> None:
        liar = Stranger(ours)
        liar.record = record_at(liar.key, endpoint("192.168.0.1"))
        assert len(liar.shake_hands(Ping(b"id", 1))) == 1
        assert ours.take_events(Met) == []


class TestWeCall:
    """We are challenged; we answer if we asked for it, once."""

    @pytest.fixture
    def ours(self) -> Party:
        return Party(seq=5)

    def test_without_a_session_the_first_packet_says_nothing(self, ours: Party) -> None:
        stranger = Stranger(ours)
        ours.discv5.ping(stranger.node, 0.0)
        (data,) = stranger.take()
        packet = unmasked(data, stranger.record.node_id)
        assert (packet.flag, packet.authdata) == (Flag.MESSAGE, ours.record.node_id)
        assert len(data) > packets.MIN_SIZE  # or a challenge would be longer than it

    @pytest.mark.parametrize(("known_seq", "sent"), [(0, True), (4, True), (5, False)])
    def test_the_challenge_decides_whether_our_record_is_sent(self, ours: Party, known_seq: int, sent: bool) -> None:
        stranger = Stranger(ours)
        ours.discv5.ping(stranger.node, 0.0)
        nonce = unmasked(stranger.take()[0], stranger.record.node_id).nonce
        whoareyou, challenge_data = stranger.whoareyou(nonce, known_seq)
        (data,) = stranger.put(whoareyou)
        assert isinstance(stranger.accept(data, challenge_data), Ping)
        handshake = packets.decode_handshake(unmasked(data, stranger.record.node_id).authdata)
        assert handshake.record == (ours.record.raw if sent else b"")

    def test_a_challenge_for_a_packet_that_we_did_not_send_is_ignored(self, ours: Party) -> None:
        stranger = Stranger(ours)
        ours.discv5.ping(stranger.node, 0.0)
        stranger.take()
        whoareyou, _ = stranger.whoareyou(b"another one!")
        assert stranger.put(whoareyou) == []
        assert ours.discv5.counts["dropped WHOAREYOU"] == 1

    def test_a_challenge_from_elsewhere_is_ignored(self, ours: Party) -> None:
        stranger = Stranger(ours)
        ours.discv5.ping(stranger.node, 0.0)
        whoareyou, _ = stranger.whoareyou(unmasked(stranger.take()[0], stranger.record.node_id).nonce)
        assert stranger.put(whoareyou, source=endpoint("9.9.9.8")) == []
        assert len(stranger.put(whoareyou)) == 1

    def test_a_request_is_challenged_once(self, ours: Party) -> None:
        stranger = Stranger(ours)
        ours.discv5.ping(stranger.node, 0.0)
        first = unmasked(stranger.take()[0], stranger.record.node_id).nonce
        whoareyou, _ = stranger.whoareyou(first)
        (handshake,) = stranger.put(whoareyou)
        second = unmasked(handshake, stranger.record.node_id).nonce
        for nonce in (first, second):
            whoareyou, _ = stranger.whoareyou(nonce)
            assert stranger.put(whoareyou) == []
        assert ours.discv5.counts["dropped WHOAREYOU"] == 2

    def test_a_challenge_that_comes_too_late_is_ignored(self, ours: Party) -> None:
        stranger = Stranger(ours)
        ours.discv5.ping(stranger.node, 0.0)
        whoareyou, _ = stranger.whoareyou(unmasked(stranger.take()[0], stranger.record.node_id).nonce)
        ours.discv5.advance(HANDSHAKE_TIMEOUT)
        assert stranger.put(whoareyou, now=HANDSHAKE_TIMEOUT) == []

    def test_what_waits_goes_out_when_the_first_answer_has_shown_that_the_session_holds(self, ours: Party) -> None:
        stranger = Stranger(ours)
        for _ in range(3):
            ours.discv5.ping(stranger.node, 0.0)
        (data,) = stranger.take()
        request = stranger.challenge_request(data)
        assert stranger.take() == []
        waiting = stranger.say(Pong(request.request_id, 1, ours.endpoint))
        assert [type(message) for message in waiting] == [Ping, Ping]

    def test_what_waits_goes_out_with_the_first_part_of_a_longer_answer(self, ours: Party) -> None:
        stranger = Stranger(ours)
        ours.discv5.fetch_record(stranger.node, 0.0)
        ours.discv5.ping(stranger.node, 0.0)
        request = stranger.challenge_request(stranger.take()[0])
        assert [type(each) for each in stranger.say(Nodes(request.request_id, 2, ()))] == [Ping]

    def test_a_handshake_of_the_other_side_ends_the_waiting_too(self, ours: Party) -> None:
        stranger = Stranger(ours)
        tokens = [ours.discv5.ping(stranger.node, 0.0) for _ in range(2)]
        assert len(stranger.take()) == 1
        first, second, pong = [stranger.read(data) for data in stranger.shake_hands(Ping(b"id", 1))]
        assert isinstance(first, Ping)
        assert isinstance(second, Ping)
        assert pong == Pong(b"id", 5, stranger.endpoint)
        for message in (first, second):
            stranger.say(Pong(message.request_id, 1, ours.endpoint))
        assert [event.token for event in ours.take_events(PongEvent)] == tokens

    def test_nonces_count_up_and_differ(self, ours: Party) -> None:
        stranger = Stranger(ours)
        stranger.shake_hands(Ping(b"id", 1))
        nonces = [
            unmasked(data, stranger.record.node_id).nonce
            for _ in range(20)
            for data in stranger.put(stranger.sealed(Ping(b"id", 1).encode()))
        ]
        counters = [int.from_bytes(nonce[:4], "big") for nonce in nonces]
        assert counters == list(range(2, 22))  # the answer to the handshake was the first
        assert len({nonce[4:] for nonce in nonces}) == len(nonces)

    def test_the_record_that_we_know_of_a_node_that_we_call_is_named_when_it_calls_us(self, ours: Party) -> None:
        stranger = Stranger(ours, seq=9)
        ours.discv5.ping(stranger.node, 0.0)
        stranger.take()
        (data,) = stranger.put(stranger.unreadable())
        assert packets.decode_whoareyou(unmasked(data, stranger.record.node_id).authdata).enr_seq == 9
