"""discv5 under attack: whatever strangers send, little is sent for it and less is kept."""

from __future__ import annotations

import random
from ipaddress import IPv4Address

from ethsync.discovery import discv5_packets as packets
from ethsync.discovery.discv5_limits import DEFAULT_LIMITS, Limits
from ethsync.discovery.discv5_messages import Ping, Pong
from ethsync.discovery.discv5_packets import Flag
from ethsync.discovery.node import Endpoint
from ethsync.discovery.protocol import Pong as PongEvent
from tests.unit.discovery.discv5_bench import Party, Stranger, endpoint, pair, unmasked
from tests.unit.discovery.spoofed import most_in_a_second

MOST_PER_SECOND = 100  # what the whole world together may get


class Flood:
    """Packets with forged ids and addresses, all different; of the three kinds, with valid headers."""

    def __init__(self, party: Party, seed: int = 1) -> None:
        self._rng = random.Random(seed)
        self._party_id = party.record.node_id

    def packet(self) -> tuple[bytes, Endpoint]:
        rng = self._rng
        nonce, iv, node_id = rng.randbytes(12), rng.randbytes(16), rng.randbytes(32)
        source = Endpoint(IPv4Address(rng.getrandbits(32)), rng.randrange(1, 65536))
        kind = rng.choices(list(Flag), weights=(8, 1, 1))[0]
        authdata = {
            Flag.MESSAGE: node_id,
            Flag.WHOAREYOU: rng.randbytes(24),
            Flag.HANDSHAKE: packets.Handshake(node_id, rng.randbytes(64), b"\x02" + rng.randbytes(32), b"").encode(),
        }[kind]
        start, _ = packets.mask(kind, nonce, authdata, self._party_id, iv)
        return (start if kind is Flag.WHOAREYOU else start + rng.randbytes(20)), source


def flooded(count: int, *, per_second: int = 2000, honest_every: int = 500) -> None:
    """Send a party so many forged packets, while an honest node with a session pings.

    Asserts that the honest one is served, how much is sent to all others, and how much is kept.
    """
    ours = Party()
    honest = Stranger(ours)
    honest.shake_hands(Ping(b"id", 1))
    flood = Flood(ours)
    challenged: list[float] = []
    received = sent = 0
    for number in range(count):
        now = 10.0 + number / per_second
        data, source = flood.packet()
        assert ours.discv5.receive(data, source, now)
        received += len(data)
        for answer, _ in ours.discv5.packets():
            assert len(answer) <= len(data)
            sent += len(answer)
            challenged.append(now)
        if number % honest_every == 0:
            assert honest.say(Ping(b"id", 1), now) == [Pong(b"id", ours.record.seq, honest.endpoint)]
    assert 0 < most_in_a_second(challenged) <= MOST_PER_SECOND
    assert sent < received / 10
    assert kept(ours)["sessions"] == 1
    assert_bounded(ours)


def kept(party: Party) -> dict[str, int]:
    """Sizes of all that strangers can fill."""
    channel = party.discv5._channel
    return {
        "sessions": len(channel.sessions),
        "challenges": len(channel.challenges),
        "watched": channel.challenges.watched,
        "records": len(channel._records),
        "requests": len(party.discv5._requests),
        "renewals": len(party.discv5._renewals),
        "calls": len(channel.calls),
        "packets": len(channel._packets),
        "events": len(party.discv5._events),
    }


def assert_bounded(party: Party, limits: Limits = DEFAULT_LIMITS) -> None:
    most = {
        "sessions": limits.sessions,
        "challenges": limits.challenges,
        "watched": 2 * limits.places,
        "records": limits.records,
        "requests": limits.sessions,
        "renewals": limits.sessions,
        "calls": limits.calls,
        "packets": limits.queued,
        "events": limits.queued,
    }
    for name, size in kept(party).items():
        assert size <= most[name], name


class TestFloods:
    def test_forged_packets_get_few_challenges_and_a_session_goes_on(self) -> None:
        flooded(20_000)

    def test_our_own_requests_to_strangers_succeed_during_a_flood(self) -> None:
        wires, ours, theirs = pair()
        flood = Flood(ours)
        token = ours.discv5.ping(theirs.node, wires.now)
        for _ in range(100):
            for _ in range(50):
                data, source = flood.packet()
                ours.discv5.receive(data, source, wires.now)
            wires.run(0.01)
        assert ours.take_event(PongEvent).token == token

    def test_who_lost_its_session_gets_a_new_one_during_a_flood(self) -> None:
        wires, ours, theirs = pair()
        theirs.discv5.ping(ours.node, wires.now)
        wires.run()
        theirs.restart()
        theirs.take_events(PongEvent)
        flood = Flood(ours)
        for step in range(100):
            for _ in range(50):
                data, source = flood.packet()
                ours.discv5.receive(data, source, wires.now)
            if step == 50:
                theirs.discv5.ping(ours.node, wires.now)
            wires.run(0.01)
        assert len(theirs.take_events(PongEvent)) == 1

    def test_one_network_cannot_use_up_the_challenges_of_all_others(self) -> None:
        ours = Party()
        rng = random.Random(1)
        answers = 0
        for number in range(5000):
            host = Stranger(ours, at=endpoint(f"7.7.7.{rng.randrange(256)}", rng.randrange(1, 65536)))
            answers += len(host.put(host.unreadable(), now=number / 5000))
        assert answers == DEFAULT_LIMITS.network_challenge_burst + DEFAULT_LIMITS.network_challenges - 1
        honest = Stranger(ours, number=3)
        assert len(honest.shake_hands(Ping(b"id", 1), now=1.0)) == 1

    def test_neighbours_in_a_private_network_do_not_share_a_rate(self) -> None:
        ours = Party(at=endpoint("192.168.0.1"))
        for number in range(2, 32):
            neighbour = Stranger(ours, number=number, at=endpoint(f"192.168.0.{number}"))
            assert len(neighbour.put(neighbour.unreadable())) == 1

    def test_one_place_gets_a_challenge_per_second_and_one_repetition(self) -> None:
        ours = Party()
        stranger = Stranger(ours)
        times = [number / 100 for number in range(1000) if stranger.put(stranger.unreadable(), now=number / 100)]
        assert most_in_a_second(times) == 2
        assert len(times) == 2 + 9

    def test_sessions_and_what_belongs_to_them_are_bounded(self) -> None:
        limits = Limits(sessions=8, records=8, challenges=8)
        ours = Party(limits=limits)
        strangers = [Stranger(ours, number, endpoint(f"9.9.{number}.9")) for number in range(10, 40)]
        for number, stranger in enumerate(strangers):
            assert len(stranger.shake_hands(Ping(b"id", 2), now=float(number))) == 2
            assert_bounded(ours, Limits(sessions=8, records=8, challenges=8))
        assert kept(ours)["sessions"] == 8
        assert len(strangers[-1].say(Ping(b"id", 1), now=40.0)) == 1
        (data,) = strangers[0].put(strangers[0].sealed(Ping(b"id", 1).encode()), now=40.0)
        assert unmasked(data, strangers[0].record.node_id).flag is Flag.WHOAREYOU

    def test_what_nobody_takes_does_not_pile_up(self) -> None:
        ours = Party(limits=Limits(queued=50, requests=1e6, request_burst=1e6))
        stranger = Stranger(ours)
        stranger.shake_hands(Ping(b"id", 1))
        for _ in range(100):
            ours.discv5.receive(stranger.sealed(Ping(b"id", 1).encode()), stranger.endpoint, 0.0)
        assert len(ours.discv5.packets()) == 50

    def test_a_source_without_a_port_is_not_answered(self) -> None:
        ours = Party()
        stranger = Stranger(ours, at=endpoint("9.9.9.9", 0))
        assert stranger.put(stranger.unreadable()) == []


class TestOtherBytes:
    def test_what_is_not_for_us_is_left_to_others(self) -> None:
        ours, other = Party(), Party(5)
        assert not ours.discv5.receive(Stranger(other).unreadable(), endpoint("9.9.9.9"), 0.0)
        assert not ours.discv5.receive(b"", endpoint("9.9.9.9"), 0.0)
        assert not ours.discv5.receive(random.Random(1).randbytes(200), endpoint("9.9.9.9"), 0.0)

    def test_a_packet_for_us_that_breaks_the_rules_is_ours_to_drop(self) -> None:
        ours = Party()
        start, _ = packets.mask(Flag.MESSAGE, b"n" * 12, b"a" * 40, ours.record.node_id, b"i" * 16)
        assert ours.discv5.receive(start + b"m" * 20, endpoint("9.9.9.9"), 0.0)
        assert ours.discv5.counts == {"dropped malformed": 1}
        assert ours.discv5.packets() == []
