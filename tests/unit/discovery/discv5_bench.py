"""discv5 nodes on the bench: wired to each other in memory, or before a stranger that does what a test says."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, TypeVar

import coincurve

from ethsync.discovery import discv5_crypto as crypto
from ethsync.discovery import discv5_packets as packets
from ethsync.discovery.discv5 import Discv5
from ethsync.discovery.discv5_messages import Message, Ping, Request, decode_message
from ethsync.discovery.discv5_packets import Flag, Handshake, Packet
from ethsync.discovery.node import Datagram, Endpoint, Node, distance
from ethsync.discovery.protocol import Target
from ethsync.wire import keys
from ethsync.wire.enr import NodeRecord, address_pairs, sign_record

TARGET = Target(b"\x55" * 64, b"\x66" * 32)
OUR_ENDPOINT = Endpoint(ip_address("8.8.4.4"), 30303)

E = TypeVar("E")
M = TypeVar("M")


def endpoint(text: str, port: int = 30303) -> Endpoint:
    return Endpoint(ip_address(text), port)


def key_number(number: int) -> coincurve.PrivateKey:
    return coincurve.PrivateKey(number.to_bytes(32, "big"))


def record_at(key: coincurve.PrivateKey, at: Endpoint, seq: int = 1, **pairs: bytes) -> NodeRecord:
    ip = {"ip6": at.ip} if at.ip.version == 6 else {"ip": at.ip}
    more = {name.encode(): value for name, value in pairs.items()}
    return sign_record(key, seq, {**address_pairs(**ip, tcp=at.port, udp=at.port), **more})


def node_number(number: int, at: Endpoint | None = None, seq: int = 1) -> Node:
    at = at or endpoint(f"9.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    record = record_at(key_number(number), at, seq)
    return Node(record.node_id, record.public_key, at, at.port, record)


@dataclass
class Table:
    """A `NodeSource` with fixed contents."""

    local_id: bytes
    nodes: list[Node] = field(default_factory=list)

    def closest(self, target: bytes, count: int) -> list[Node]:
        raise AssertionError("discv5 asks by distance")

    def at_distances(self, distances: list[int], count: int) -> list[Node]:
        assert all(1 <= each <= 256 for each in distances)
        return [node for each in distances for node in self.nodes if distance(node.node_id, self.local_id) == each][
            :count
        ]


class Party:
    """A `Discv5` with all that belongs to it. Chance comes from a seed."""

    def __init__(self, number: int = 1, at: Endpoint = OUR_ENDPOINT, seq: int = 1, **options: Any) -> None:
        self.key = key_number(number)
        self.endpoint = at
        self.record = record_at(self.key, at, seq)
        self.table = Table(self.record.node_id)
        self.entropy = random.Random(number).randbytes
        self.events: list[Any] = []
        self.discv5 = Discv5(self.key, self.record, self.table, entropy=self.entropy, **options)

    @property
    def node(self) -> Node:
        """As others know it."""
        return Node(self.record.node_id, self.record.public_key, self.endpoint, self.record.tcp, self.record)

    def restart(self, **options: Any) -> None:
        """Lose everything but the key and the record."""
        self.discv5 = Discv5(self.key, self.record, self.table, entropy=self.entropy, **options)

    def take_events(self, kind: type[E]) -> list[E]:
        """The events of one kind that came since the last call; the others stay."""
        self.events += self.discv5.events()
        taken = [event for event in self.events if isinstance(event, kind)]
        self.events = [event for event in self.events if not isinstance(event, kind)]
        return taken

    def take_event(self, kind: type[E]) -> E:
        """The only one of its kind."""
        (event,) = self.take_events(kind)
        return event


@dataclass
class Wires:
    """Carries datagrams between parties; time passes when the test says so."""

    loss: float = 0.0
    twice: float = 0.0
    delay: tuple[float, float] = (0.02, 0.02)
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    passes: Callable[[Endpoint, Datagram], bool] = lambda source, datagram: True
    now: float = 0.0
    log: list[tuple[float, Endpoint, Datagram]] = field(default_factory=list)
    """All that was sent: when, by whom."""
    _parties: dict[Endpoint, Party] = field(default_factory=dict)
    _under_way: list[tuple[float, int, Endpoint, Datagram]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=itertools.count)

    def add(self, party: Party) -> Party:
        self._parties[party.endpoint] = party
        return party

    def move(self, party: Party, to: Endpoint) -> None:
        """Give a party another address."""
        del self._parties[party.endpoint]
        party.endpoint = to
        self.add(party)

    def run(self, seconds: float = 10.0) -> None:
        """Let so much time pass."""
        end = self.now + seconds
        self._collect()
        while True:
            party = min(self._parties.values(), key=lambda each: each.discv5.deadline)
            arrival = self._under_way[0][0] if self._under_way else float("inf")
            if min(arrival, party.discv5.deadline) > end:
                break
            self.now = max(self.now, min(arrival, party.discv5.deadline))
            if arrival <= party.discv5.deadline:
                _, _, source, (data, to) = heapq.heappop(self._under_way)
                if to in self._parties:
                    assert self._parties[to].discv5.receive(data, source, self.now)
            else:
                party.discv5.advance(self.now)
            self._collect()
        self.now = end

    def _collect(self) -> None:
        for source, party in self._parties.items():
            party.events += party.discv5.events()
            for datagram in party.discv5.packets():
                self.log.append((self.now, source, datagram))
                if self.passes(source, datagram) and self.rng.random() >= self.loss:
                    for _ in range(2 if self.rng.random() < self.twice else 1):
                        at = self.now + self.rng.uniform(*self.delay)
                        heapq.heappush(self._under_way, (at, next(self._order), source, datagram))


def pair(**options: Any) -> tuple[Wires, Party, Party]:
    """Two parties and the wires between them."""
    wires = Wires(**options)
    return wires, wires.add(Party(1)), wires.add(Party(2, endpoint("9.9.9.9")))


def flags_sent(wires: Wires, by: Party, to: Party) -> list[Flag]:
    """The kinds of packets that one party has sent to another."""
    sent = [each.data for _, source, each in wires.log if source == by.endpoint and each.to == to.endpoint]
    return [unmasked(data, to.record.node_id).flag for data in sent]


def unmasked(data: bytes, node_id: bytes) -> Packet:
    packet = packets.unmask(data, node_id)
    assert packet is not None
    return packet


class Stranger:
    """Speaks discv5 by hand with one party, whose datagrams it does not wait for but takes."""

    def __init__(self, party: Party, number: int = 2, at: Endpoint | None = None, seq: int = 1) -> None:
        self.party = party
        self.endpoint = at or endpoint("9.9.9.9")
        self.key = key_number(number)
        self.record = record_at(self.key, self.endpoint, seq)
        self.write_key = self.read_key = b""
        self.random = random.Random(number).randbytes
        self._request_ids = iter(range(1, 1 << 30))

    @property
    def node(self) -> Node:
        """As others know it."""
        return Node(self.record.node_id, self.record.public_key, self.endpoint, self.record.tcp, self.record)

    def request_id(self) -> bytes:
        return next(self._request_ids).to_bytes(4, "big")

    def put(self, data: bytes, now: float = 0.0, source: Endpoint | None = None) -> list[bytes]:
        """Send a datagram; return those that come back."""
        assert self.party.discv5.receive(data, source or self.endpoint, now)
        return self.take()

    def take(self) -> list[bytes]:
        """The datagrams that the party has sent here."""
        return [data for data, to in self.party.discv5.packets() if to == self.endpoint]

    def unreadable(self, nonce: bytes | None = None, *, size: int = 20) -> bytes:
        """A packet of random bytes: the beginning of every handshake."""
        start, _ = packets.mask(
            Flag.MESSAGE, nonce or self.random(12), self.record.node_id, self.party.record.node_id, self.random(16)
        )
        return start + self.random(size)

    def whoareyou(self, nonce: bytes, enr_seq: int = 0) -> tuple[bytes, bytes]:
        """A challenge, and what its answer must sign."""
        authdata = packets.Whoareyou(self.random(16), enr_seq).encode()
        return packets.mask(Flag.WHOAREYOU, nonce, authdata, self.party.record.node_id, self.random(16))

    def handshake(
        self,
        whoareyou: bytes,
        message: Message,
        *,
        record: bytes | None = None,
        signer: coincurve.PrivateKey | None = None,
        recipient_id: bytes | None = None,
    ) -> bytes:
        """Answer a WHOAREYOU, if told so wrongly. Our keys are those of the new session."""
        party_id, own_id = self.party.record.node_id, self.record.node_id
        challenge = unmasked(whoareyou, own_id)
        ephemeral = coincurve.PrivateKey(self.random(32))
        ephemeral_key = ephemeral.public_key.format(compressed=True)
        secret = crypto.ecdh(self.party.key.public_key, ephemeral)
        self.write_key, self.read_key = crypto.derive_keys(secret, own_id, party_id, challenge.ad)
        signature = crypto.sign_id(signer or self.key, challenge.ad, ephemeral_key, recipient_id or party_id)
        sent = self.record.raw if record is None else record
        authdata = Handshake(own_id, signature, ephemeral_key, sent).encode()
        nonce = self.random(12)
        start, ad = packets.mask(Flag.HANDSHAKE, nonce, authdata, party_id, self.random(16))
        return start + crypto.seal(self.write_key, nonce, message.encode(), ad)

    def accept(self, data: bytes, challenge_data: bytes) -> Message | None:
        """Take the party's handshake packet; our keys are those of the new session."""
        packet = unmasked(data, self.record.node_id)
        handshake = packets.decode_handshake(packet.authdata)
        party_key = keys.public_key(self.party.record.public_key)
        assert crypto.is_id_signed(
            party_key, handshake.signature, challenge_data, handshake.ephemeral_key, self.record.node_id
        )
        secret = crypto.ecdh(keys.decompress(handshake.ephemeral_key), self.key)
        self.read_key, self.write_key = crypto.derive_keys(
            secret, self.party.record.node_id, self.record.node_id, challenge_data
        )
        return decode_message(crypto.unseal(self.read_key, packet.nonce, packet.message, packet.ad))

    def shake_hands(self, message: Message, now: float = 0.0) -> list[bytes]:
        """Contact the party; return what it sends in the end."""
        (whoareyou,) = self.put(self.unreadable(), now)
        return self.put(self.handshake(whoareyou, message), now)

    def challenge_request(self, data: bytes, now: float = 0.0) -> Request:
        """Answer the party's first packet with a challenge; return the request that its handshake bears."""
        whoareyou, challenge_data = self.whoareyou(unmasked(data, self.record.node_id).nonce)
        (handshake,) = self.put(whoareyou, now)
        message = self.accept(handshake, challenge_data)
        assert isinstance(message, Request)
        return message

    def sealed(self, plaintext: bytes) -> bytes:
        """A packet under our session."""
        nonce = self.random(12)
        start, ad = packets.mask(Flag.MESSAGE, nonce, self.record.node_id, self.party.record.node_id, self.random(16))
        return start + crypto.seal(self.write_key, nonce, plaintext, ad)

    def say(self, message: Message, now: float = 0.0) -> list[Message | None]:
        """Send a message under our session; return the messages that come back."""
        return [self.read(data) for data in self.put(self.sealed(message.encode()), now)]

    def read(self, data: bytes) -> Message | None:
        packet = unmasked(data, self.record.node_id)
        return decode_message(crypto.unseal(self.read_key, packet.nonce, packet.message, packet.ad))


def acquainted(**options: Any) -> tuple[Party, Stranger]:
    """A party and a stranger that have a session, and nothing else left to talk about."""
    ours = Party(**options)
    stranger = Stranger(ours)
    stranger.shake_hands(Ping(b"id", 1))
    ours.discv5.events()
    return ours, stranger


def asked(stranger: Stranger) -> Message:
    """The one message that the party has sent."""
    (data,) = stranger.take()
    message = stranger.read(data)
    assert message is not None
    return message


def ask_something(rng: random.Random, discv5: Discv5, node: Node, now: float) -> int:
    """Make a request of any kind; return its token."""
    kind = rng.randrange(4)
    if kind == 0:
        return discv5.ping(node, now)
    if kind == 1:
        return discv5.find_nodes(node, TARGET, now)
    if kind == 2:
        return discv5.fetch_record(node, now)
    return discv5.talk_request(node, b"echo", b"say", now)
